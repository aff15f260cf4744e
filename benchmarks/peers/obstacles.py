"""What this machine has too little of for a run, said in one line before it is tried."""

from __future__ import annotations

import shutil
from pathlib import Path

from benchmarks.peers.case import Case, work_dir
from benchmarks.peers.environments import PeerSpec
from benchmarks.weight_files import weight_file_bytes

from lm_offload.units import format_bytes

ROOM = 1.15  # of the weights' size, for what comes beside them


def check_disk(spec: PeerSpec, case: Case) -> None:
    """RuntimeError where a peer would fill the disk with weights that it has not converted yet."""
    folder = work_dir(spec, case)
    if spec.converts and not folder.exists():
        require_disk(folder, int(ROOM * weight_file_bytes(case.model)), "the converted weights")


def check_conversion(spec: PeerSpec, case: Case) -> None:
    """RuntimeError where a converter would use up the machine's memory."""
    require_memory(
        int(spec.conversion_memory * weight_file_bytes(case.model)), "convert the weights"
    )


def check_memory(case: Case) -> None:
    """RuntimeError where a run without a limit needs more memory than there is."""
    if case.limit_bytes is None:
        require_memory(int(ROOM * weight_file_bytes(case.model)), "hold the model")


def require_memory(needed_bytes: int, purpose: str) -> None:
    """RuntimeError where less is free."""
    free_bytes = available_memory_bytes()
    if needed_bytes > free_bytes:
        raise RuntimeError(
            f"too little memory: {format_bytes(needed_bytes)} needed to {purpose}, "
            f"{format_bytes(free_bytes)} free"
        )


def require_disk(folder: Path, needed_bytes: int, what: str) -> None:
    """RuntimeError where the disk below `folder`, which need not exist, has less free."""
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free_bytes = shutil.disk_usage(there).free
    if needed_bytes > free_bytes:
        raise RuntimeError(
            f"too little disk: {format_bytes(needed_bytes)} needed for {what}, "
            f"{format_bytes(free_bytes)} free"
        )


def available_memory_bytes() -> int:
    """What can be used without swapping."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0
