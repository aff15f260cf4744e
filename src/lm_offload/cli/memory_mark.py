"""The memory that a run takes beside what the process had before it."""

from __future__ import annotations

import contextlib
import resource
from dataclasses import dataclass
from pathlib import Path

_CLEAR_PEAK = "5"  # what /proc/self/clear_refs takes to start VmHWM anew (Linux 4.0)


@dataclass(frozen=True)
class MemoryMark:
    """A moment to measure from: interpreter and libraries are loaded, the model is not."""

    fixed_bytes: int
    peak_before_bytes: int

    def peak_rss_bytes(self) -> int:
        """The most memory this process has had resident, before the mark or after it."""
        return max(self.peak_before_bytes, peak_rss_bytes())

    def taken_bytes(self) -> int:
        """The most memory since the mark, less what was there then."""
        return max(peak_rss_bytes() - self.fixed_bytes, 0)


def mark_memory() -> MemoryMark:
    """Measure from here on."""
    peak_bytes = peak_rss_bytes()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text(_CLEAR_PEAK)
    return MemoryMark(_status_bytes("VmRSS:") or peak_bytes, peak_bytes)


def peak_rss_bytes() -> int:
    """The most memory this process has had resident, since the last mark if there is one."""
    peak_bytes = _status_bytes("VmHWM:")
    return peak_bytes or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _status_bytes(name: str) -> int:
    """A size of this process; 0 where the system does not tell."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * 1024
    return 0
