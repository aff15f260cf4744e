"""Gemma 3, text: Gemma 2 with queries and keys normalised by head and two ropes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lm_offload.models.base import Context, Weights
from lm_offload.models.blocks import attend, project_qkv
from lm_offload.models.gemma2 import (
    KERNELS_ONLY,
    add_normed,
    embed,
    embed_rows,
    final_norm,
    head,
    input_norm,
    mlp,
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
    """hidden[T, H] += post_norm(o_proj(attention(norm(hidden)))), queries and keys normalised."""
    normed = input_norm(ctx, weights, hidden)
    q, k, v = project_qkv(ctx, weights, normed)
    for heads, role in ((q, "q_norm"), (k, "k_norm")):
        rows = heads.flatten(0, 1)
        ctx.kernels.rms_norm_plus_one(rows, weights[role], ctx.config.norm_eps, rows)
    attended = attend(ctx, layer, (q, k, v), batch, keys, values)
    ctx.kernels.linear(attended, weights["o_proj"], normed, weights.get("o_bias"))
    add_normed(ctx, weights, normed, hidden)
