"""Short convolutions of LFM2 (Liquid AI 2025): a gate, a sum over the last few rows, a gate.

::

    hidden -> first gate, last gate, x          one projection of norm(hidden)
    out    -> o_proj(last gate * (sum over the last few rows of first gate * x, by channel))
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lm_offload.models.blocks import project
from lm_offload.models.llama import input_norm

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.kvcache.recurrent_states import State
    from lm_offload.micro_batch import MicroBatch
    from lm_offload.models.base import Context, Weights


def recur(ctx: Context, weights: Weights, hidden: Tensor, batch: MicroBatch, state: State) -> None:
    """hidden[T, H] += a short convolution; keeps the last rows of what is convolved."""
    wide = project(ctx, weights, input_norm(ctx, weights, hidden), "in_proj", "in_bias")
    given, gate, x = wide.chunk(3, 1)
    ctx.kernels.multiply(given, x, given)
    mixed = ctx.workspace.take(*given.shape)
    taps, bias = weights["convolution"], weights.get("convolution_bias")
    ctx.kernels.plain_convolution(given[:, None], taps, state.inputs, batch, mixed, bias)
    ctx.kernels.multiply(mixed, gate, mixed)
    ctx.kernels.linear_add(mixed, weights["o_proj"], hidden, weights.get("o_bias"))
