"""Seconds of a sweep in which tokens are drawn from logits, by torch on its own threads."""

from __future__ import annotations

from lm_offload.hardware.processor import Processor

PARALLEL_VALUES = 1 << 15  # torch leaves less to one thread (at::internal::GRAIN_SIZE)
# Idle threads of libgomp look out for more work instead of sleeping, on cores that the next
# sweep computes on: a sweep of 46 ms took 51 ms with two of them on two cores.
SPIN_S = 5e-3


def sampling_s(cpu: Processor, values: int, threads: int) -> float:
    """For `values` logits; the profile's rate is that of one thread."""
    if not cpu.sampled_values_per_s:
        return 0.0
    used = threads if values > PARALLEL_VALUES else 1
    spin_s = SPIN_S if used > 1 else 0.0
    return values / cpu.sampled_values_per_s / used + spin_s
