"""Measures this machine, one probe after the other, each within its share of the time.

What the engine costs beside its kernels is measured by engine/overhead.py.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from lm_offload.hardware.clock import Clock
from lm_offload.hardware.core_groups import spread_threads
from lm_offload.hardware.disk_reader import DiskReader
from lm_offload.hardware.disk_visits import DiskVisits
from lm_offload.hardware.disk_writes import measure_writes, temporary_file
from lm_offload.hardware.effort import Effort
from lm_offload.hardware.interference_visits import InterferenceVisits
from lm_offload.hardware.link import Link
from lm_offload.hardware.machine import describe_machine
from lm_offload.hardware.memory_probe import (
    Touching,
    exceeds_cache,
    mapped_memory,
    probe_memory,
)
from lm_offload.hardware.processor_probe import measure_processor
from lm_offload.hardware.profile import HardwareProfile
from lm_offload.hardware.visits import Report
from lm_offload.hardware.watch import watch_with
from lm_offload.kernels.base import Kernels
from lm_offload.storage.direct_file import DirectFile
from lm_offload.units import MIB, align_down

READ_MEMORY_BYTES = 32 * MIB  # that blocks are read into
READ_MEMORY_FRAC = 0.25  # of all memory, where that is little
ENOUGH_FILE_BYTES = 16 * MIB  # to see the rate of large blocks


@dataclass(frozen=True)
class Calibration:
    """A measured profile; `is_sound` unless memory or file were too small to see true rates."""

    profile: HardwareProfile
    is_sound: bool


def calibrate(
    kernels: Kernels, place: Path, effort: Effort, memory_bytes: int, report: Report
) -> Calibration:
    """Measure this machine and the disk of `place`, within `memory_bytes` and a few MiB.

    `place` is a file of weights to read, or a folder: its largest weights are read, or a file
    that is made there for a moment. Raises ConfigError where none can be made, StorageError
    where reads fail.
    """
    spread_threads(kernels.threads)
    clock = Clock(effort, report, watch_with(kernels))
    read_bytes, other_bytes = _split_memory(memory_bytes)
    target, arena = probe_memory(read_bytes), mapped_memory(other_bytes, effort.times_cache)
    with (
        closing(Touching(arena)) as touching,
        _file_to_read(place, effort, clock, touching) as (file, write),
        DiskReader(file, target.buffer) as reader,
        closing(DiskVisits(file, reader, effort, clock)) as disk,
    ):
        touching.wait()
        beside = InterferenceVisits(reader, disk.way, kernels, arena, effort, clock)
        cpu = measure_processor(kernels, arena, effort, clock)
        beside.visit()
        disk.visit()
        read = replace(disk.link, block_s=beside.block_s)
        is_sound = is_enough_memory(memory_bytes) and file.size_bytes >= ENOUGH_FILE_BYTES
    profile = HardwareProfile(
        name=describe_machine().cpu,
        source=f"measured ({effort.name})",
        cpu=cpu,
        disk_bytes=shutil.disk_usage(place).total,
        disk_read=read,
        disk_write=write or Link(read.bytes_per_s, block_bytes=read.block_bytes),
        interference=beside.interference,
        disturbed_frac=clock.disturbed_frac,
    )
    return Calibration(profile, is_sound)


def is_enough_memory(memory_bytes: int) -> bool:
    """Whether a calibration within `memory_bytes` sees past the cache."""
    return exceeds_cache(_split_memory(memory_bytes)[1])


def _split_memory(memory_bytes: int) -> tuple[int, int]:
    """For blocks that are read, and for what is computed with."""
    read_bytes = int(min(READ_MEMORY_BYTES, memory_bytes * READ_MEMORY_FRAC))
    return read_bytes, memory_bytes - read_bytes


@contextmanager
def _file_to_read(
    place: Path, effort: Effort, clock: Clock, touching: Touching
) -> Iterator[tuple[DirectFile, Link | None]]:
    """A file on the disk, and how fast one is written there if that is to be measured.

    The probes' memory may be touched meanwhile.
    """
    weights = _largest_weights(place) if place.is_dir() else place
    if weights is not None and not effort.file_bytes:
        with closing(DirectFile(weights)) as file:
            yield file, None
        return
    size_bytes = min(max(effort.file_bytes, ENOUGH_FILE_BYTES), shutil.disk_usage(place).free // 4)
    with temporary_file(place if place.is_dir() else place.parent) as path:
        budget_s = clock.budget_s("disk writes")
        touching.begin()
        write = measure_writes(path, align_down(size_bytes), budget_s)
        enough = weights is not None and _size_bytes(weights) >= ENOUGH_FILE_BYTES
        with closing(DirectFile(weights if weights and enough else path)) as file:
            yield file, write


def _largest_weights(folder: Path) -> Path | None:
    return max(folder.glob("*.safetensors"), key=_size_bytes, default=None)


def _size_bytes(path: Path) -> int:
    return path.stat().st_size
