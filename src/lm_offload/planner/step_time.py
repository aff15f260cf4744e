"""Predicted seconds of a sweep: the larger of what the disk and what the CPU needs.

::

    sweep_s = max(streamed / B_disk, compute)
    compute = max(micro-batches * weights / B_mem, rows * FLOPs per row / F)
              + KV read / B_mem + tasks * hand-off
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from lm_offload.arch.accounting import kv_bytes_per_token
from lm_offload.arch.config import ModelConfig
from lm_offload.plan import MachineRates, Workload
from lm_offload.planner.memory import Sizes


@dataclass(frozen=True)
class ModelCost:
    """What one sweep over all units takes, in bytes and in operations per row."""

    weight_bytes: int
    flops_per_row: int
    num_units: int


TASK_OVERHEAD_S = (
    30e-6  # hand-off and Python of one task; benchmarks/bench_fixed_costs.py measures it
)


def decode_sweep_s(
    config: ModelConfig,
    cost: ModelCost,
    rates: MachineRates,
    streamed_bytes: int,
    sizes: Sizes,
    context: int,
) -> float:
    """One sweep: a token for each sequence in flight, all with `context` tokens."""
    rows = sizes.max_sequences
    kv_bytes = rows * context * kv_bytes_per_token(config, sizes.kv_format)
    compute_s = compute_s_of(cost, rates, rows, 1) + kv_bytes / rates.memory_read_bytes_per_s
    return max(streamed_bytes / rates.disk_read_bytes_per_s, compute_s)


def prefill_s(
    cost: ModelCost, rates: MachineRates, streamed_bytes: int, rows: int, sizes: Sizes
) -> float:
    """All sweeps that compute `rows` prompt tokens."""
    sweeps = math.ceil(rows / sizes.sweep_tokens)
    micro_batches = math.ceil(rows / sizes.micro_batch_tokens)
    read_s = sweeps * streamed_bytes / rates.disk_read_bytes_per_s
    return max(read_s, compute_s_of(cost, rates, rows, micro_batches))


def compute_s_of(cost: ModelCost, rates: MachineRates, rows: int, micro_batches: int) -> float:
    """Seconds of the matrix products of `rows` rows cut into micro-batches."""
    read_s = micro_batches * cost.weight_bytes / rates.memory_read_bytes_per_s
    overhead_s = micro_batches * cost.num_units * TASK_OVERHEAD_S
    return max(read_s, rows * cost.flops_per_row / rates.matmul_flops) + overhead_s


def workload_s(
    workload: Workload, max_sequences: int, prefill: float, decode_sweep: float
) -> float:
    """Seconds for the whole workload in waves of `max_sequences`."""
    waves = math.ceil(len(workload.prompt_lens) / max_sequences)
    return waves * (prefill + (max(workload.output_lens) - 1) * decode_sweep)
