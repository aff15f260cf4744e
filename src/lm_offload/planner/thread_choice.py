"""How many threads each kind of task gets: from the knees of the curves, by hill climbing.

Threads beyond the knee of a curve (Liu et al., IPDPS 2019) bring next to nothing but are missed by
readers and by others. The climb moves one kind of task, or both, to the next number of threads
wherever the simulated run gets shorter by more than a per cent, or as short with fewer threads.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

from lm_offload.hardware.profile import Processor, thread_counts
from lm_offload.plan import ThreadPlan
from lm_offload.planner.thread_rates import speedup

KNEE = 1.03  # a work at its knee takes longer than at best by this factor
TIE = 1.01  # runs closer than this are as long
SPIN_S = 1e-3  # torch's threads look out for more work for so long, on cores that others need


def choose_threads(
    cpu: Processor, logit_values: int, seconds_of: Callable[[ThreadPlan], float]
) -> ThreadPlan:
    """The fewest threads with which the run that `seconds_of` predicts is as short as can be.

    `logit_values`: rows x vocabulary that a sweep samples from. Without measured speedups every
    core computes, as nothing says where more threads stop to help.
    """
    sampling = sampling_threads(cpu, logit_values)
    if not cpu.thread_speedup:
        return ThreadPlan(cpu.threads, cpu.threads, sampling)
    counts = thread_counts(cpu.threads)
    known: dict[ThreadPlan, tuple[int, int]] = {}

    def rank(threads: ThreadPlan) -> tuple[int, int]:
        if threads not in known:
            steps = round(math.log(seconds_of(threads)) / math.log(TIE))
            known[threads] = steps, threads.compute + threads.attention
        return known[threads]

    best = ThreadPlan(knee(cpu, "product_row"), knee(cpu, "decode_attention"), sampling)
    while (found := min(_neighbours(best, counts), key=rank)) != best:
        best = found
    return best


def knee(cpu: Processor, work: str) -> int:
    """The fewest threads that reach all but `KNEE` of a work's best speed."""
    counts = thread_counts(cpu.threads)
    best = max(speedup(cpu, work, count) for count in counts)
    return next(count for count in counts if speedup(cpu, work, count) * KNEE >= best)


def sampling_threads(cpu: Processor, logit_values: int) -> int:
    """All cores where that saves more than torch's threads then waste by waiting for work."""
    if not cpu.sampled_values_per_s:
        return cpu.threads
    saved_s = (cpu.threads - 1) * logit_values / cpu.sampled_values_per_s
    return cpu.threads if saved_s > SPIN_S else 1


def _neighbours(at: ThreadPlan, counts: list[int]) -> Iterator[ThreadPlan]:
    """The plan itself first, then one step away for compute, for attention, for both."""
    yield at
    rows, columns = counts.index(at.compute), counts.index(at.attention)
    steps = itertools.product((-1, 0, 1), repeat=2)
    for row, column in ((rows + down, columns + right) for down, right in steps):
        if 0 <= row < len(counts) and 0 <= column < len(counts):
            yield ThreadPlan(counts[row], counts[column], at.sampling)
