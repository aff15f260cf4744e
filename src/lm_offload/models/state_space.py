"""State space layers of Mamba-2 (Dao and Gu 2024): each head has a matrix that keys add values to.

::

    hidden -> gate, v k q, steps
    v k q  -> silu(convolution over the last few rows + bias)
    S      -> decay S + k (step v)^T                            one matrix for each head
    out    -> o_proj(norm((S^T q + skip v) * silu(gate)))       normalised by group of heads

In the paper k is B, q is C and a step is dt: groups of heads share B and C as queries share keys.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lm_offload.arch.recurrent import ScanShape
from lm_offload.kernels.state_kernels import ScanFactors
from lm_offload.models.blocks import project_each
from lm_offload.models.llama import input_norm

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.kvcache.recurrent_states import State
    from lm_offload.micro_batch import MicroBatch
    from lm_offload.models.base import Context, Weights

_ROLES = (("in_proj", "in_bias"), ("step_proj", "step_bias"))


def recur(ctx: Context, weights: Weights, hidden: Tensor, batch: MicroBatch, state: State) -> None:
    """hidden[T, H] += a state space layer; moves the states of the rows' sequences on."""
    shape, rows = _shape(ctx), len(hidden)
    normed = input_norm(ctx, weights, hidden)
    wide, steps = project_each(ctx, weights, normed, _ROLES)
    gate, given = wide[:, : shape.value_size], wide[:, None, shape.value_size :]
    mixed = ctx.workspace.take(rows, shape.channels)
    taps, bias = weights["convolution"], weights.get("convolution_bias")
    ctx.kernels.causal_convolution(given, taps, state.inputs, batch, mixed, bias)
    out, factors = ctx.workspace.take(rows, shape.value_size), _factors(weights, shape)
    ctx.kernels.selective_scan(mixed, steps, factors, state.matrices, batch, out)
    ctx.kernels.silu_mul(gate, out, out)
    _norm_groups(ctx, weights["gated_norm"], shape, out)
    ctx.kernels.linear_add(out, weights["o_proj"], hidden, weights.get("o_bias"))


def _shape(ctx: Context) -> ScanShape:
    assert isinstance(ctx.config.recurrent, ScanShape)
    return ctx.config.recurrent


def _factors(weights: Weights, shape: ScanShape) -> ScanFactors:
    vectors = weights["decay_log"], weights["decay_bias"], weights["skip"]
    return ScanFactors(*vectors, shape.least_step, shape.most_step)


def _norm_groups(ctx: Context, scales: Tensor, shape: ScanShape, out: Tensor) -> None:
    """The heads of each group are normalised together, with scales of their own."""
    width = shape.value_size // shape.key_heads
    for first in range(0, shape.value_size, width):
        part = out[:, first : first + width]
        ctx.kernels.rms_norm(part, scales[first : first + width], shape.norm_eps, part)
