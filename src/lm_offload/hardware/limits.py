"""What this process may use: cores and memory, by cgroup, affinity and what is free."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from lm_offload.errors import ConfigError

CGROUP_ROOT = Path("/sys/fs/cgroup")
_UNLIMITED_BYTES = 1 << 60  # cgroup v1 writes a number near 2^63 for "no limit"


def allowed_cores() -> int:
    """Cores by CPU affinity and cgroup quota, at least 1."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(min(affinity or 1, int(_cgroup_cores())), 1)


def check_threads(threads: int | None) -> int:
    """Threads to compute with: as given, or every core allowed; raises ConfigError for others."""
    cores = allowed_cores()
    if threads is not None and not 1 <= threads <= cores:
        raise ConfigError(
            f"{threads} threads were given; allowed are 1 to {cores}, the cores that cgroup and "
            "affinity leave to this process."
        )
    return threads or cores


def available_memory_bytes() -> int:
    """What this process may still allocate: free memory, or less where a cgroup says so."""
    left_bytes = [max(limit_bytes - used_bytes, 0) for limit_bytes, used_bytes in _cgroup_memory()]
    return min([_free_memory_bytes(), *left_bytes])


def cgroup_memory_limit_bytes() -> int | None:
    """The tightest memory limit of the cgroups above this process, or None."""
    return min((limit_bytes for limit_bytes, _ in _cgroup_memory()), default=None)


def _free_memory_bytes() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")


def _cgroup_memory() -> Iterator[tuple[int, int]]:
    """Limit and usage of each memory cgroup above this process, v2 and v1."""
    for folder in _cgroup_folders("", CGROUP_ROOT):
        yield from _limit(folder / "memory.max", folder / "memory.current")
    for folder in _cgroup_folders("memory", CGROUP_ROOT / "memory"):
        yield from _limit(folder / "memory.limit_in_bytes", folder / "memory.usage_in_bytes")


def _limit(limit: Path, usage: Path) -> Iterator[tuple[int, int]]:
    limit_bytes, used_bytes = _read_number(limit), _read_number(usage)
    if limit_bytes is not None and used_bytes is not None and limit_bytes < _UNLIMITED_BYTES:
        yield limit_bytes, used_bytes


def _cgroup_cores() -> float:
    cores = float("inf")
    for folder in _cgroup_folders("", CGROUP_ROOT):
        fields = _read_text(folder / "cpu.max").split()
        if len(fields) == 2 and fields[0] != "max":
            cores = min(cores, int(fields[0]) / int(fields[1]))
    for folder in _cgroup_folders("cpu", CGROUP_ROOT / "cpu"):
        quota = _read_number(folder / "cpu.cfs_quota_us") or -1
        period = _read_number(folder / "cpu.cfs_period_us") or 1
        cores = min(cores, quota / period if quota > 0 else cores)
    return cores if cores != float("inf") else 1 << 16


def _cgroup_folders(controller: str, root: Path) -> list[Path]:
    """The folder of this process's group under `root` and those above it, as far as they show."""
    for line in _read_text(Path("/proc/self/cgroup")).splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            group = root / path.lstrip("/")
            return [group, *(up for up in group.parents if up.is_relative_to(root))]
    return []


def _read_text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _read_number(path: Path) -> int | None:
    text = _read_text(path).strip()
    return int(text) if text.lstrip("-").isdigit() else None
