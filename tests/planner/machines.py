"""Machines written by hand, with numbers that one can reckon with."""

from __future__ import annotations

from dataclasses import replace

from lm_offload.hardware.curve import Curve
from lm_offload.hardware.link import Link
from lm_offload.hardware.processor import Processor
from lm_offload.hardware.profile import HardwareProfile, Interference
from lm_offload.units import GIB, MIB

SLOW_DISK = Link(Curve((1,), (1e9,)), block_bytes=MIB, concurrency=2)  # 1 ms for 1 MB
PLAIN_CPU = Processor(
    threads=2,
    memory_bytes=16 * GIB,
    memory_bytes_per_s=1e10,
    peak_flops=1e11,
    elementwise_bytes_per_s=1e10,
)
PLAIN = HardwareProfile("plain machine", "by hand", PLAIN_CPU, 100 * GIB, SLOW_DISK, SLOW_DISK)


def with_cpu(**changes: object) -> HardwareProfile:
    """The plain machine with another processor."""
    return replace(PLAIN, cpu=replace(PLAIN_CPU, **changes))


def disturbed(reads_frac: float, computes_frac: float) -> HardwareProfile:
    """The plain machine whose disk and processor slow one another."""
    return replace(PLAIN, interference=Interference(reads_frac, computes_frac))
