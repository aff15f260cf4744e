"""How busy other processes keep the cores: while they do, rates come out too low."""

from __future__ import annotations

import os
import time
from pathlib import Path

STAT = Path("/proc/stat")
_IDLE_FIELDS = (3, 4)  # of the cpu line: idle, and idle until a disk answers
_OWN_FIELDS = 8  # the rest repeats time of guests


class OtherLoad:
    """Watches the cores from its construction on."""

    def __init__(self, stat: Path = STAT) -> None:
        self._stat = stat
        self._start_s = time.perf_counter()
        self._start_busy_s = self._busy_elsewhere_s()

    @property
    def busy_frac(self) -> float:
        """The share of all cores that others used so far; 0 where the system does not say."""
        seconds = (time.perf_counter() - self._start_s) * (os.cpu_count() or 1)
        busy_s = self._busy_elsewhere_s() - self._start_busy_s
        return min(max(busy_s / seconds, 0.0), 1.0)

    def _busy_elsewhere_s(self) -> float:
        try:
            line = self._stat.read_text().partition("\n")[0]
        except OSError:
            return 0.0
        ticks = [int(field) for field in line.split()[1:]][:_OWN_FIELDS]
        busy = sum(ticks) - sum(ticks[index] for index in _IDLE_FIELDS)
        own = os.times()
        return busy / os.sysconf("SC_CLK_TCK") - own.user - own.system
