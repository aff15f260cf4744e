"""Attention whose output passes a gate.

Queries and gates of a head are neighbours in q_proj, or gates have a matrix of their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lm_offload.arch.weight_spec import ATTENTION_GATE
from lm_offload.models import llama
from lm_offload.models.blocks import QKV_ROLES, attend, project_each, rotate, split_heads
from lm_offload.models.gemma2 import input_norm
from lm_offload.models.qwen3 import norm_by_head

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.micro_batch import MicroBatch
    from lm_offload.models.base import Context, ModelFunctions, Weights
    from lm_offload.quant.kv_blocks import Blocks


def gated_attention(
    model: ModelFunctions,
    ctx: Context,
    layer: int,
    weights: Weights,
    hidden: Tensor,
    batch: MicroBatch,
    keys: Blocks,
    values: Blocks,
) -> None:
    """As `blocks.attention`, what is attended to multiplied with sigmoid(gate) of each value."""
    both, k, v = project_each(ctx, weights, input_norm(ctx, weights, hidden), QKV_ROLES)
    q, gate = both.view(len(both), ctx.config.num_heads, -1).chunk(2, -1)
    k, v = split_heads(ctx, k), split_heads(ctx, v)
    for heads, role in ((q, "q_norm"), (k, "k_norm")):
        rows = heads.flatten(0, 1)
        ctx.kernels.rms_norm_plus_one(rows, weights[role], ctx.config.norm_eps, rows)
    rotate(ctx, layer, batch, q, k)
    out = ctx.workspace.take(*q.shape)
    attend(ctx.config, ctx.kernels, layer, (q, k, v), batch, keys, values, out)
    by_head = out.flatten(0, 1)
    ctx.kernels.sigmoid_mul(gate.flatten(0, 1), by_head, by_head)
    model.add_attended(ctx, weights, out.flatten(1), hidden)


def scored_attention(
    model: ModelFunctions,
    ctx: Context,
    layer: int,
    weights: Weights,
    hidden: Tensor,
    batch: MicroBatch,
    keys: Blocks,
    values: Blocks,
) -> None:
    """The same where a matrix of its own makes the gates, and norms are as they are stored."""
    normed = llama.input_norm(ctx, weights, hidden)
    q, k, v, gate = project_each(ctx, weights, normed, (*QKV_ROLES, (ATTENTION_GATE, "")))
    made = split_heads(ctx, q), split_heads(ctx, k), split_heads(ctx, v)
    asked = norm_by_head(ctx, weights, made)
    rotate(ctx, layer, batch, *asked[:2])
    out = ctx.workspace.take(*asked[0].shape)
    attend(ctx.config, ctx.kernels, layer, asked, batch, keys, values, out)
    attended = out.flatten(1)
    ctx.kernels.sigmoid_mul(gate, attended, attended)
    model.add_attended(ctx, weights, attended, hidden)
