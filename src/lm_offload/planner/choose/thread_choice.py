"""How many threads each kind of task gets: from the knees of the curves, by hill climbing.

Threads beyond the knee of a curve (Liu et al., IPDPS 2019) bring next to nothing but are missed by
readers and by others. The climb moves one kind of task, or two, to the next number of threads
wherever the simulated run gets shorter by more than a per cent, or as short with fewer threads.
Sampling runs on one of torch's threads or on all of them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import replace

from lm_offload.hardware.measured_work import thread_counts
from lm_offload.hardware.processor import Processor
from lm_offload.plan import ThreadPlan
from lm_offload.planner.costs.thread_rates import speedup

KNEE = 1.03  # a work at its knee takes longer than at best by this factor
TIE = 1.01  # runs closer than this are as long


def choose_threads(
    cpu: Processor, asked: int | None, seconds_of: Callable[[ThreadPlan], float]
) -> ThreadPlan:
    """The fewest threads with which the run that `seconds_of` predicts is as short as can be.

    `asked` threads compute where the user says so. Without measured speedups every core does, as
    nothing says where more threads stop to help.
    """
    counts = thread_counts(cpu.threads)
    known: dict[ThreadPlan, tuple[int, int]] = {}

    def rank(threads: ThreadPlan) -> tuple[int, int]:
        if threads not in known:
            steps = round(math.log(seconds_of(threads)) / math.log(TIE))
            known[threads] = steps, threads.compute + threads.attention + threads.sampling
        return known[threads]

    best = ThreadPlan(knee(cpu, "product_row"), knee(cpu, "decode_attention"), 1)
    if asked or not cpu.thread_speedup:
        counts = [asked or cpu.threads]
        best = ThreadPlan(counts[0], counts[0], sampling=1)
    while (found := min(_neighbours(best, counts, cpu.threads), key=rank)) != best:
        best = found
    return best


def knee(cpu: Processor, work: str) -> int:
    """The fewest threads that reach all but `KNEE` of a work's best speed."""
    counts = thread_counts(cpu.threads)
    best = max(speedup(cpu, work, count) for count in counts)
    return next(count for count in counts if speedup(cpu, work, count) * KNEE >= best)


def _neighbours(at: ThreadPlan, counts: list[int], cores: int) -> Iterator[ThreadPlan]:
    """The plan itself first, then one step away for compute, for attention, for both."""
    yield at
    yield replace(at, sampling=cores if at.sampling == 1 else 1)
    rows, columns = counts.index(at.compute), counts.index(at.attention)
    steps = itertools.product((-1, 0, 1), repeat=2)
    for row, column in ((rows + down, columns + right) for down, right in steps):
        if 0 <= row < len(counts) and 0 <= column < len(counts):
            yield ThreadPlan(counts[row], counts[column], at.sampling)
