"""Phi-3 and Phi-4-mini: Llama with fused projections, rotated in part of each head."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lm_offload.models.base import Context, Weights
from lm_offload.models.blocks import activate, project, split_heads
from lm_offload.models.llama import (
    KERNELS_ONLY,
    add_inner,
    embed,
    embed_rows,
    final_norm,
    head,
    input_norm,
)

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.models.base import QKV

__all__ = [
    "KERNELS_ONLY",
    "add_attended",
    "add_inner",
    "embed",
    "embed_rows",
    "final_norm",
    "head",
    "inner_rows",
    "mlp",
    "qkv",
]


def qkv(ctx: Context, weights: Weights, hidden: Tensor) -> QKV:
    """Queries, keys and values of norm(hidden), which are parts of one product."""
    normed = input_norm(ctx, weights, hidden)
    fused = split_heads(ctx, project(ctx, weights, normed, "qkv_proj", "qkv_bias"))
    first_v = fused.shape[1] - ctx.config.num_kv_heads
    q, k = fused[:, : ctx.config.num_heads], fused[:, ctx.config.num_heads : first_v]
    return q, k, fused[:, first_v:]


def add_attended(ctx: Context, weights: Weights, attended: Tensor, hidden: Tensor) -> None:
    """hidden[T, H] += o_proj(attended)."""
    ctx.kernels.linear_add(attended, weights["o_proj"], hidden)


def mlp(ctx: Context, layer: int, weights: Weights, hidden: Tensor) -> None:
    """hidden[T, H] += down(silu(gate) * up) of norm(hidden)."""
    inner = fused_gate_and_up(ctx, weights, input_norm(ctx, weights, hidden))
    add_inner(ctx, weights, inner, hidden)


def inner_rows(ctx: Context, weights: Weights, hidden: Tensor, out: Tensor) -> None:
    """out[T, I] = silu(gate) * up of norm(hidden)."""
    activate(ctx, *_gate_and_up(ctx, weights, input_norm(ctx, weights, hidden)), out)


def fused_gate_and_up(ctx: Context, weights: Weights, x: Tensor) -> Tensor:
    """activation(x gate) * (x up) [T, I] from one matrix."""
    gate, up = _gate_and_up(ctx, weights, x)
    activate(ctx, gate, up, gate)
    return gate


def _gate_and_up(ctx: Context, weights: Weights, x: Tensor) -> tuple[Tensor, Tensor]:
    gate, up = project(ctx, weights, x, "gate_up_proj", "gate_up_bias").chunk(2, dim=1)
    return gate, up
