"""Attention over keys and values that an earlier layer made: queries alone are of this one."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.micro_batch import MicroBatch
    from lm_offload.models.base import Context, ModelFunctions, SharedFunctions, Weights
    from lm_offload.quant.kv_blocks import Blocks


def shared_attention(
    model: ModelFunctions,
    ctx: Context,
    layer: int,
    weights: Weights,
    hidden: Tensor,
    batch: MicroBatch,
    keys: Blocks,
    values: Blocks,
) -> None:
    """As `blocks.attention`, but that nothing is written: the rows are in that layer's cache."""
    ctx, place = ctx.of_layer(layer), ctx.config.layers[layer]
    q = cast("SharedFunctions", model).queries(ctx, weights, hidden)
    if batch.rotary and place.rope_index is not None:
        ctx.kernels.rotary(q, *batch.rotary[place.rope_index])
    out, config = ctx.workspace.take(*q.shape), ctx.config
    scale, cap = config.attention_scale, config.attention_softcap
    ctx.kernels.attention(q, keys, values, batch, scale, out, place.window, cap)
    model.add_attended(ctx, weights, out.flatten(1), hidden)
