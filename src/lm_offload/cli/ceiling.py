"""What the machine allows at best: bytes over measured bandwidths, FLOPs over the measured rate.

Nothing of the engine enters but what its plan leaves on disk and how many rows share a sweep::

    seconds = max(streamed / B_disk, (weights + KV) / B_memory, FLOPs / F)
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from lm_offload.arch.accounting import attention_flops, kv_bytes_per_token, unit_flops
from lm_offload.arch.config import ModelConfig
from lm_offload.arch.weights import Unit
from lm_offload.plan import MachineRates, Plan
from lm_offload.quant.format import parse_format


@dataclass(frozen=True)
class Shape:
    """A benchmark's workload: all prompts of one length, all outputs of one length."""

    batch_size: int
    prompt_len: int
    gen_len: int


@dataclass(frozen=True)
class PhaseCeiling:
    """The least seconds of a phase by resource, and the rate that follows."""

    tokens: int
    disk_s: float
    memory_s: float
    compute_s: float

    @property
    def seconds(self) -> float:
        """All resources working side by side."""
        return max(self.disk_s, self.memory_s, self.compute_s)

    @property
    def tokens_per_s(self) -> float:
        """The most tokens a second."""
        return self.tokens / self.seconds

    @property
    def bound_by(self) -> str:
        """The resource that takes longest."""
        return max(("disk", "memory", "compute"), key=lambda name: getattr(self, f"{name}_s"))


@dataclass(frozen=True)
class Ceiling:
    """All prompts prefilled, then all tokens decoded."""

    shape: Shape
    prefill: PhaseCeiling
    decode: PhaseCeiling

    @property
    def throughput_tokens_per_s(self) -> float:
        """Generated tokens over the seconds of both phases."""
        tokens = self.shape.batch_size * self.shape.gen_len
        return tokens / (self.prefill.seconds + self.decode.seconds)


class CeilingModel:
    """Costs of a model under a plan, from accounting alone."""

    def __init__(
        self, config: ModelConfig, units: Iterable[Unit], plan: Plan, rates: MachineRates
    ) -> None:
        self._config, self._plan, self._rates = config, plan, rates
        units = list(units)
        self._head_flops = sum(unit_flops(unit) for unit in units if unit.kind == "head")
        self._layer_flops = sum(unit_flops(unit) for unit in units) - self._head_flops
        elements = sum(spec.elements for unit in units for spec in unit.loaded)
        self._weight_bytes = elements * config.itemsize

    def ceiling(self, shape: Shape) -> Ceiling:
        """Both phases of a workload."""
        return Ceiling(shape, self._prefill(shape), self._decode(shape))

    def _prefill(self, shape: Shape) -> PhaseCeiling:
        """Logits are wanted of the last token of each prompt only."""
        tokens = shape.batch_size * shape.prompt_len
        per_token = self._layer_flops + attention_flops(self._config, (shape.prompt_len + 1) // 2)
        flops = tokens * per_token + shape.batch_size * self._head_flops
        return self._phase(tokens, math.ceil(tokens / self._plan.sweep_tokens), 0, flops)

    def _decode(self, shape: Shape) -> PhaseCeiling:
        """The first token of each prompt comes from its prefill."""
        tokens = shape.batch_size * (shape.gen_len - 1)
        context = shape.prompt_len + (shape.gen_len + 1) // 2
        kv_bytes = (
            tokens * context * kv_bytes_per_token(self._config, parse_format(self._plan.kv_format))
        )
        per_token = self._layer_flops + self._head_flops + attention_flops(self._config, context)
        sweeps = math.ceil(tokens / min(self._plan.max_sequences, shape.batch_size))
        return self._phase(tokens, sweeps, kv_bytes, tokens * per_token)

    def _phase(self, tokens: int, sweeps: int, kv_bytes: int, flops: int) -> PhaseCeiling:
        memory_bytes = sweeps * self._weight_bytes + kv_bytes
        return PhaseCeiling(
            tokens=tokens,
            disk_s=sweeps * self._plan.streamed_bytes / self._rates.disk_read_bytes_per_s,
            memory_s=memory_bytes / self._rates.memory_read_bytes_per_s,
            compute_s=flops / self._rates.matmul_flops,
        )
