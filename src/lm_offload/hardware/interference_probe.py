"""How much reads from disk and computing slow one another down."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from lm_offload.hardware.disk_reader import DiskReader, Way
from lm_offload.hardware.profile import Interference
from lm_offload.hardware.timing import Deadline

SAMPLE_S = 0.05
LEAST_FRAC = 0.05  # of a rate: less is a disturbance by others


def measure_interference(
    reader: DiskReader, way: Way, compute: Callable[[], object], budget_s: float
) -> Interference:
    """What is left of each while the disk is read and `compute` is called without pause.

    Each alone and both together in turns, compared within a turn.
    """
    deadline = Deadline(budget_s)
    sample = reader.sampler(way, SAMPLE_S)
    reading: list[float] = []
    computing: list[float] = []
    with ThreadPoolExecutor(1) as pool:
        while not reading or not deadline.passed:
            call_s, byte_s = _call_s(compute, _after(SAMPLE_S)), sample()
            reads = pool.submit(sample)
            computing.append(call_s / _call_s(compute, reads.done))
            reading.append(byte_s / reads.result())
    return Interference(
        disk_read_while_computing_frac=_fraction(reading),
        compute_while_reading_frac=_fraction(computing),
    )


def _call_s(compute: Callable[[], object], is_over: Callable[[], bool]) -> float:
    """Seconds of a call, over calls until `is_over`, at least one."""
    start_s, count = time.perf_counter(), 0
    while count == 0 or not is_over():
        compute()
        count += 1
    return (time.perf_counter() - start_s) / count


def _after(seconds: float) -> Callable[[], bool]:
    deadline = Deadline(seconds)
    return lambda: deadline.passed


def _fraction(ratios: list[float]) -> float:
    return min(max(statistics.median(ratios), LEAST_FRAC), 1.0)
