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

SAMPLE_S = 0.03
LEAST_FRAC = 0.05  # of a rate: less is a disturbance by others


class _Turn(NamedTuple):
    """What is left of the rate of each while both work, and seconds of a byte then."""

    computing: float
    reading: float
    byte_s: float


class Beside:
    """What calls and the reads of a disk leave one another, seen in visits.

    Each alone and both together in turns, compared within a turn.
    """

    def __init__(self, reader: DiskReader, way: Way) -> None:
        self._sample = reader.sampler(way, SAMPLE_S)
        self._visits: list[list[_Turn]] = []

    def visit(self, call: Callable[[], object], seconds: float) -> None:
        """At least one turn of reads, and of `call` without pause."""
        deadline, turns = Deadline(seconds), list[_Turn]()
        with ThreadPoolExecutor(1) as pool:
            while not turns or not deadline.passed:
                turns.append(self._turn(call, pool))
        self._visits.append(turns)

    def _turn(self, call: Callable[[], object], pool: ThreadPoolExecutor) -> _Turn:
        call_s, byte_s = repeated_s(call, after(SAMPLE_S)), self._sample()
        reads = pool.submit(self._sample)
        slower_s = repeated_s(call, reads.done)
        return _Turn(call_s / slower_s, byte_s / reads.result(), reads.result())

    @property
    def interference(self) -> Interference:
        """What is left of each rate while both work, after one visit at least."""
        return Interference(
            disk_read_while_computing_frac=_as_share(self._typical(lambda turn: turn.reading)),
            compute_while_reading_frac=_as_share(self._typical(lambda turn: turn.computing)),
        )

    @property
    def lost_byte_s(self) -> float:
        """Seconds that calls lose for each byte that is read, after one visit at least."""
        return self._typical(lambda turn: max(1 - turn.computing, 0.0) * turn.byte_s)

    def _typical(self, of: Callable[[_Turn], float]) -> float:
        """The median of the visits, of each of which the median turn counts."""
        return statistics.median(statistics.median(map(of, turns)) for turns in self._visits)


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
    return _as_share(statistics.median(ratios))


def _as_share(ratio: float) -> float:
    return min(max(ratio, LEAST_FRAC), 1.0)
