"""Which cores this process may use, and lists of cores as the system writes them."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path


def affinity() -> Collection[int]:
    """The cores that this thread may run on."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return range(os.cpu_count() or 1)


def listed_cores(path: Path) -> list[int]:
    """The cores in a file such as 0-3,8-11; none if it cannot be read."""
    try:
        text = path.read_text().strip()
    except OSError:
        return []
    ranges = [part.partition("-") for part in text.split(",") if part]
    return [
        core
        for first, dash, last in ranges
        for core in range(int(first), int(last if dash else first) + 1)
    ]
