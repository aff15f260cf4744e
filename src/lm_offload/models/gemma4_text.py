"""Gemma 4: norms around both blocks, values normalised, every layer scaled by a number of its own.

Heads of different sizes and layers whose values are made of keys are data (arch/).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lm_offload.models import olmo2
from lm_offload.models.base import Context, Weights
from lm_offload.models.blocks import gate_and_up, project, project_each, split_heads
from lm_offload.models.experts import add_expert
from lm_offload.models.gemma2 import embed
from lm_offload.models.gemma4_inputs import add_layer_input, embed_rows, layer_inputs
from lm_offload.models.gemma4_mixture import add_sums, route
from lm_offload.models.llama import final_norm, head, input_norm
from lm_offload.models.olmo2 import add_attended, add_normed

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.models.base import QKV

__all__ = [
    "KERNELS_ONLY",
    "add_attended",
    "add_expert",
    "add_layer_input",
    "add_sums",
    "embed",
    "embed_rows",
    "final_norm",
    "head",
    "layer_inputs",
    "mlp",
    "qkv",
    "queries",
    "route",
]

KERNELS_ONLY = olmo2.KERNELS_ONLY | {"router", "expert"}


def qkv(ctx: Context, weights: Weights, hidden: Tensor) -> QKV:
    """Queries, keys and values of norm(hidden), each normalised by head, values without scales."""
    x = input_norm(ctx, weights, hidden)
    roles = [(f"{kind}_proj", f"{kind}_bias") for kind in "qkv" if f"{kind}_proj" in weights]
    made = [split_heads(ctx, each) for each in project_each(ctx, weights, x, roles)]
    q, k = made[:2]
    v = made[2] if len(made) > 2 else ctx.workspace.take(*k.shape)
    ctx.kernels.bare_norm(made[-1].flatten(0, 1), ctx.config.norm_eps, v.flatten(0, 1))
    _norm_heads(ctx, q, weights["q_norm"])
    _norm_heads(ctx, k, weights["k_norm"])
    return q, k, v


def queries(ctx: Context, weights: Weights, hidden: Tensor) -> Tensor:
    """Those alone [T, heads, head_dim], of a layer that reads keys and values of another."""
    q = split_heads(ctx, project(ctx, weights, input_norm(ctx, weights, hidden), "q_proj", ""))
    _norm_heads(ctx, q, weights["q_norm"])
    return q


def mlp(ctx: Context, layer: int, weights: Weights, hidden: Tensor) -> None:
    """hidden[T, H] = (hidden + post_norm(down(gelu(gate) * up)) of norm(hidden)) * scale.

    Where the layer adds something of its own input, too, the scale is of both.
    """
    normed = input_norm(ctx, weights, hidden)
    inner = gate_and_up(ctx, weights, normed)
    ctx.kernels.linear(inner, weights["down_proj"], normed)
    add_normed(ctx, weights, normed, hidden)
    if not ctx.config.layer_input_size:
        ctx.kernels.scale(hidden, weights["layer_scale"])


def _norm_heads(ctx: Context, heads: Tensor, scales: Tensor) -> None:
    """heads[T, n, head_dim] = norm(heads)."""
    rows = heads.flatten(0, 1)
    ctx.kernels.rms_norm(rows, scales, ctx.config.norm_eps, rows)
