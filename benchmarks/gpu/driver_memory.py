"""The most memory of a GPU that was in use while something ran, as the driver counts it."""

from __future__ import annotations

import subprocess
import threading
from types import TracebackType

PERIOD_S = 0.2
MIB = 1 << 20


class PeakMemory:
    """Asks nvidia-smi again and again; `taken_bytes` is None where that does not answer.

    Of the whole GPU, less what was in use before: in a container processes cannot be told apart.
    """

    def __init__(self, device: str) -> None:
        kind, _, index = device.partition(":")
        self._index = (index or "0") if kind == "cuda" else None
        self._before = self._most = self._used_bytes()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    @property
    def taken_bytes(self) -> int | None:
        """The peak so far."""
        if self._before is None or self._most is None:
            return None
        return self._most - self._before

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while self._before is not None and not self._over.wait(PERIOD_S):
            self._most = max(self._most or 0, self._used_bytes() or 0)

    def _used_bytes(self) -> int | None:
        if self._index is None:
            return None
        query = ["--query-gpu=memory.used", "--format=csv,noheader,nounits", f"--id={self._index}"]
        try:
            done = subprocess.run(
                ["nvidia-smi", *query], capture_output=True, text=True, timeout=10, check=True
            )
            return int(done.stdout.split()[0]) * MIB
        except (OSError, subprocess.SubprocessError, ValueError, IndexError):
            return None
