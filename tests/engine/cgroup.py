"""A memory cgroup of our own, version 1 or 2, to prove that a limit holds."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

V1_ROOT, V2_ROOT = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")


class MemoryGroup:
    """A cgroup folder; processes started in it may use `limit_bytes`, page cache included."""

    def __init__(self, folder: Path, version: int) -> None:
        self._folder, self._version = folder, version

    def limit(self, limit_bytes: int) -> None:
        """Allow this much."""
        name = "memory.limit_in_bytes" if self._version == 1 else "memory.max"
        (self._folder / name).write_text(str(limit_bytes))

    @property
    def peak_bytes(self) -> int:
        """The most that was used so far."""
        name = "memory.max_usage_in_bytes" if self._version == 1 else "memory.peak"
        return int((self._folder / name).read_text())

    @property
    def times_full(self) -> int:
        """How often the limit was reached, so that the kernel had to take memory back."""
        if self._version == 1:
            return int((self._folder / "memory.failcnt").read_text())
        events = (self._folder / "memory.events").read_text().split()
        return int(events[events.index("max") + 1])

    def run(self, command: Sequence[str], **options) -> subprocess.CompletedProcess[str]:
        """Run a command inside."""
        enter = f'echo $$ > "{self._folder}/cgroup.procs" && exec "$0" "$@"'
        return subprocess.run(
            ["sh", "-c", enter, *command], capture_output=True, text=True, check=False, **options
        )


@contextmanager
def memory_group() -> Iterator[MemoryGroup]:
    """A fresh group, removed at the end; skips the test where none can be made."""
    version = 1 if V1_ROOT.is_dir() else 2
    folder = (V1_ROOT if version == 1 else V2_ROOT) / f"lm-offload-test-{uuid.uuid4().hex[:8]}"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no memory cgroup can be made here: {error}")
    try:
        group = MemoryGroup(folder, version)
        _check_usable(group)
        yield group
    finally:
        os.rmdir(folder)


def _check_usable(group: MemoryGroup) -> None:
    try:
        group.limit(1 << 40)
        _ = group.peak_bytes
    except OSError as error:
        pytest.skip(f"the memory controller cannot be used here: {error}")
