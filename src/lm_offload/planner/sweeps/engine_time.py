"""Seconds of the engine itself in a sweep, beside its tasks."""

from __future__ import annotations

from lm_offload.hardware.processor import Processor
from lm_offload.planner.costs.sampling_cost import sampling_s
from lm_offload.planner.costs.sweep_shape import SweepShape
from lm_offload.planner.costs.task_cost import MOST_MISSED_FRAC


def overhead_s(
    cpu: Processor, vocab_size: int, shape: SweepShape, sampling_threads: int, fixed_s: float
) -> float:
    """What the engine takes in a sweep of one micro-batch, with sampling.

    `fixed_s` of it is the same for any sequences.
    """
    sampled_s = sampling_s(cpu, shape.logit_rows * vocab_size, sampling_threads)
    return fixed_s + shape.sequences * cpu.sequence_s + sampled_s


def fixed_s(cpu: Processor, used_bytes: float) -> float:
    """Of decode with so many bytes of weights, keys and values, which sweeps use again and again.

    The more of them there are the less of what Python needs stays in the last-level cache.
    """
    if cpu.sweep_by_bytes_s is not None:
        return cpu.sweep_by_bytes_s.at(used_bytes)
    stays = cpu.missed_frac(used_bytes) <= MOST_MISSED_FRAC
    return cpu.sweep_s * (cpu.cached_overhead_frac if stays else 1.0)


def least_fixed_s(cpu: Processor, units_bytes: float) -> float:
    """At least, with units of so many bytes, whether any are streamed or not."""
    may_stay = cpu.missed_frac(units_bytes) <= MOST_MISSED_FRAC
    streamed_s = cpu.sweep_s * (cpu.cached_overhead_frac if may_stay else 1.0)
    return min(streamed_s, fixed_s(cpu, units_bytes))
