"""What can be decided about offloading, in general terms; a `Plan` is one in exact bytes.

The eleven variables of FlexGen (arXiv 2303.06865, section 4) with what came after it: schedules
without a barrier, a device for each phase, fused dequantization.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lm_offload.quant.format import Format

Device = Literal["gpu", "cpu"]
ScheduleKind = Literal["flexgen", "pipo", "pipo-memory", "zigzag", "cgopipe"]
Dequantize = Literal["fused", "unit", "micro_batch"]  # in the product, or how often to a copy

BF16 = Format("bf16")


@dataclass(frozen=True)
class Share:
    """Fractions of something in each tier; they sum to 1."""

    gpu: float = 0.0
    cpu: float = 0.0
    disk: float = 0.0


@dataclass(frozen=True)
class PhasePolicy:
    """Which device computes what in one phase."""

    compute: Device  # projections and MLP
    attention: Device  # scores and weighted sums


@dataclass(frozen=True)
class Policy:
    """One way to run a model; a block is `num_micro_batches` x `micro_batch_size` sequences."""

    weights: Share
    kv: Share
    activations: Share
    micro_batch_size: int  # sequences
    num_micro_batches: int
    prefill: PhasePolicy
    decode: PhasePolicy
    schedule: ScheduleKind = "zigzag"
    weight_format: Format = BF16
    kv_format: Format = BF16
    dequantize: Dequantize = "fused"
    prefetch_units: int = 1  # streamed units that are read ahead
    pinned: bool = True  # host homes of weights are pinned, so that transfers need no copy
    kv_pinned: bool = True  # the same of keys and values

    @property
    def block_size(self) -> int:
        """Sequences that share one load of the weights."""
        return self.micro_batch_size * self.num_micro_batches
