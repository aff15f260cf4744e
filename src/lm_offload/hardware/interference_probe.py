"""How much reads from disk and computing slow one another down."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from lm_offload.hardware.disk_reader import DiskReader, Way
from lm_offload.hardware.profile import Interference
from lm_offload.hardware.timing import Deadline
from lm_offload.units import KIB, align_up

SAMPLE_S = 0.05
SMALL_BLOCK_BYTES = 256 * KIB  # so many of them a second that they show
LEAST_FRAC = 0.05  # of a rate: less is a disturbance by others


class _Turn(NamedTuple):
    """What is left of the rate of each while both work, and seconds of a byte then."""

    computing: float
    reading: float
    byte_s: float


def measure_interference(
    reader: DiskReader, way: Way, compute: Callable[[], object], budget_s: float
) -> Interference:
    """What is left of each while the disk is read and `compute` is called without pause.

    Each alone and both together in turns, compared within a turn.
    """
    turns = _turns(reader, way, compute, budget_s)
    return Interference(
        disk_read_while_computing_frac=fraction([turn.reading for turn in turns]),
        compute_while_reading_frac=fraction([turn.computing for turn in turns]),
    )


def measure_block_s(
    reader: DiskReader, depth: int, call: Callable[[], object], budget_s: float
) -> float:
    """Seconds that `call`, which has next to nothing to do, loses by each block that is read.

    Threads of Python that hand blocks over hold what a call must have again when it returns.
    """
    block_bytes = min(SMALL_BLOCK_BYTES, reader.known_bytes)
    turns = _turns(reader, Way(align_up(block_bytes), depth), call, budget_s)
    lost = (max(1 - turn.computing, 0.0) * turn.byte_s for turn in turns)
    return statistics.median(lost) * block_bytes


def _turns(
    reader: DiskReader, way: Way, compute: Callable[[], object], budget_s: float
) -> list[_Turn]:
    deadline = Deadline(budget_s)
    sample = reader.sampler(way, SAMPLE_S)
    turns: list[_Turn] = []
    with ThreadPoolExecutor(1) as pool:
        while not turns or not deadline.passed:
            call_s, byte_s = repeated_s(compute, after(SAMPLE_S)), sample()
            reads = pool.submit(sample)
            slower_s = repeated_s(compute, reads.done)
            turns.append(_Turn(call_s / slower_s, byte_s / reads.result(), reads.result()))
    return turns


def repeated_s(compute: Callable[[], object], is_over: Callable[[], bool]) -> float:
    """Seconds of a call, over calls until `is_over`, at least one."""
    start_s, count = time.perf_counter(), 0
    while count == 0 or not is_over():
        compute()
        count += 1
    return (time.perf_counter() - start_s) / count


def after(seconds: float) -> Callable[[], bool]:
    """Whether so many seconds from now are over."""
    deadline = Deadline(seconds)
    return lambda: deadline.passed


def fraction(ratios: Sequence[float]) -> float:
    """The typical ratio, as a share of a rate."""
    return min(max(statistics.median(ratios), LEAST_FRAC), 1.0)
