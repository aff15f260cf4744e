"""What a runner is to the engine, and what one works on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from lm_offload.arch.weight_spec import LAYER_KINDS
from lm_offload.arch.weights import Unit
from lm_offload.pipeline.executor import Executor
from lm_offload.sequence import Batch
from lm_offload.step_time import StepTime
from lm_offload.storage.unit_views import Views


class Weights(Protocol):
    """Where the weights of a unit are found."""

    def acquire(self, unit: int, ring_offset: int) -> Views:
        """The weights of `unit` by role: where it lives, or at `ring_offset` of the ring."""


class Runner(Protocol):
    """Runs sweeps of one model."""

    def run(self, batch: Batch, executor: Executor) -> tuple[Tensor, StepTime]:
        """One sweep over `batch`: logits [R, V] f32 of the rows that want them, and its times."""

    def forget(self) -> None:
        """Repeat nothing of what was computed so far: kernels are no longer the same."""

    def task_counts(self, micro_batches: int) -> list[int]:
        """Compute tasks of each unit in a sweep of so many micro-batches."""


@dataclass(frozen=True)
class Buffers:
    """Activations that outlive a unit, f32, in the memory of the processor that computes."""

    hidden: Tensor  # [sweep_tokens, H]
    normed: Tensor  # [logit_rows, embed_size]
    logits: Tensor  # [logit_rows, V]
    layer_inputs: Tensor | None = field(default=None, kw_only=True)  # [sweep_tokens, layers, width]
    inner: Tensor | None = field(default=None, kw_only=True)  # [sweep_tokens, I], of cut MLPs
    result: Tensor  # the logits where tokens are sampled: the same tensor, or a copy on the host


def task_counts(units: Sequence[Unit], micro_batches: int) -> list[int]:
    """Compute tasks of each unit in a sweep of so many micro-batches."""
    return [micro_batches if by_micro_batch(unit) else 1 for unit in units]


def by_micro_batch(unit: Unit) -> bool:
    """Whether it computes each micro-batch by itself."""
    return unit.kind == "embed" or unit.kind in LAYER_KINDS
