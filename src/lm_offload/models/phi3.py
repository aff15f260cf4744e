"""Phi-3 and Phi-4-mini: Llama with fused projections, rotated in part of each head."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lm_offload.models.base import Context, Weights
from lm_offload.models.blocks import activate, attend, project, split_heads
from lm_offload.models.llama import (
    KERNELS_ONLY,
    embed,
    embed_rows,
    final_norm,
    head,
    input_norm,
)

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.quant.kv_blocks import Blocks
    from lm_offload.sequence import MicroBatch

__all__ = ["KERNELS_ONLY", "attention", "embed", "embed_rows", "final_norm", "head", "mlp"]


def attention(
    ctx: Context,
    layer: int,
    weights: Weights,
    hidden: Tensor,
    batch: MicroBatch,
    keys: Blocks,
    values: Blocks,
) -> None:
    """hidden[T, H] += o_proj(attention(norm(hidden)))."""
    normed = input_norm(ctx, weights, hidden)
    fused = split_heads(ctx, project(ctx, weights, normed, "qkv_proj", "qkv_bias"))
    first_v = fused.shape[1] - ctx.config.num_kv_heads
    q, k = fused[:, : ctx.config.num_heads], fused[:, ctx.config.num_heads : first_v]
    attended = attend(ctx, layer, (q, k, fused[:, first_v:]), batch, keys, values)
    ctx.kernels.linear_add(attended, weights["o_proj"], hidden)


def mlp(ctx: Context, layer: int, weights: Weights, hidden: Tensor) -> None:
    """hidden[T, H] += down(silu(gate) * up) of norm(hidden)."""
    normed = input_norm(ctx, weights, hidden)
    fused = project(ctx, weights, normed, "gate_up_proj", "gate_up_bias")
    gate, up = fused.chunk(2, dim=1)
    activate(ctx, gate, up)
    ctx.kernels.linear_add(gate, weights["down_proj"], hidden)
