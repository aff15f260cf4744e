"""What the engine does between two sweeps, and what doing it beside the next one could gain.

::

    now       | last unit | check, sample, bookkeeping | first unit of the next sweep
    beside    | last unit |                            | first unit, on a core less meanwhile

On P cores that all compute, work of one core for b seconds still takes b / P of each of them, so
beside the next sweep it saves at most b (1 - 1 / P). A sequence needs its own token first: with one
micro-batch in a sweep there is nothing beside which its tokens could be drawn. The engine does it
between the sweeps; the figure says what that leaves. Detokenization holds Python's lock and takes
some microseconds of a token: it is not in here.
"""

from __future__ import annotations

from dataclasses import dataclass

from lm_offload.hardware.processor import Processor
from lm_offload.plan import Plan
from lm_offload.planner.costs.sampling_cost import sampling_s


@dataclass(frozen=True)
class BetweenSweeps:
    """Of the mean decode sweep."""

    seconds: float
    sampling_s: float  # of these, in which tokens are drawn
    gain_frac: float  # of the sweep, that could be saved at most


def between_sweeps(plan: Plan, cpu: Processor, vocab_size: int) -> BetweenSweeps | None:
    """For the decode sweeps of a plan; None where there are none."""
    step = plan.predicted.step_s["decode"]
    if not step.total_s:
        return None
    rows = min(plan.max_sequences, plan.sweep_tokens)
    drawn_s = min(sampling_s(cpu, rows * vocab_size, plan.threads.sampling), step.overhead_s)
    hidden_s = step.overhead_s if rows > plan.micro_batch_tokens else step.overhead_s - drawn_s
    gain_s = hidden_s * (1 - 1 / cpu.threads)
    return BetweenSweeps(step.overhead_s, drawn_s, gain_s / step.total_s)
