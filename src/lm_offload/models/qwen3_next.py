"""Qwen3-Next: Qwen3.5 with experts whose recurrent layers have fused projections."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from lm_offload.models.blocks import project_each
from lm_offload.models.delta_net import Asked, add_corrected
from lm_offload.models.gemma2 import input_norm
from lm_offload.models.qwen3_5_moe_text import (
    KERNELS_ONLY,
    add_attended,
    add_expert,
    embed,
    embed_rows,
    final_norm,
    head,
    route,
)

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.kvcache.recurrent_states import State
    from lm_offload.micro_batch import MicroBatch
    from lm_offload.models.base import Context, Weights

__all__ = [
    "KERNELS_ONLY",
    "add_attended",
    "add_expert",
    "embed",
    "embed_rows",
    "final_norm",
    "head",
    "recur",
    "route",
]


def recur(ctx: Context, weights: Weights, hidden: Tensor, batch: MicroBatch, state: State) -> None:
    """hidden[T, H] += a gated delta net; moves the states of the rows' sequences on."""
    add_corrected(ctx, weights, _asked(ctx, weights, hidden), hidden, batch, state)


def _asked(ctx: Context, weights: Weights, hidden: Tensor) -> Asked:
    """Of norm(hidden): what belongs to a key head lies side by side, in two matrices."""
    shape = ctx.config.recurrent
    assert shape is not None
    normed, roles = input_norm(ctx, weights, hidden), (("qkvz_proj", ""), ("ba_proj", ""))
    wide, gates = (
        each.view(len(hidden), shape.key_heads, -1)
        for each in project_each(ctx, weights, normed, roles)
    )
    values = shape.value_size // shape.key_heads
    *mixed, gate = torch.split(wide, [shape.key_dim, shape.key_dim, values, values], -1)
    rates, decays = gates.chunk(2, -1)
    return Asked(tuple(mixed), gate, rates, decays)
