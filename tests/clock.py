"""A clock that only a test moves."""

from __future__ import annotations

from threading import Lock
from types import ModuleType

import pytest


class FakeClock:
    """Stands in for the module `time`; whoever sleeps moves it, in any thread."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._lock = Lock()

    def perf_counter(self) -> float:
        """See `time.perf_counter`."""
        return self.now_s

    def monotonic(self) -> float:
        """See `time.monotonic`."""
        return self.now_s

    def sleep(self, seconds: float) -> None:
        """See `time.sleep`."""
        with self._lock:
            self.now_s += seconds

    def sleep_until(self, moment_s: float) -> None:
        """Nothing where that moment is over."""
        with self._lock:
            self.now_s = max(self.now_s, moment_s)


def fake_clock(monkeypatch: pytest.MonkeyPatch, *modules: ModuleType) -> FakeClock:
    """A clock at zero that these modules take for `time`."""
    clock = FakeClock()
    for module in modules:
        monkeypatch.setattr(module, "time", clock)
    return clock
