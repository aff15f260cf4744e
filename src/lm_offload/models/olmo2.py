"""OLMo 2 and 3: norms of what blocks add, none of what they read; queries and keys normalised."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lm_offload.models.base import Context, Weights
from lm_offload.models.blocks import gate_and_up, gate_and_up_into, project_qkv
from lm_offload.models.llama import KERNELS_ONLY, embed, embed_rows, final_norm, head

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
    """Queries, keys and values of hidden, queries and keys normalised over all heads."""
    return norm_whole(ctx, weights, project_qkv(ctx, weights, hidden))


def add_attended(ctx: Context, weights: Weights, attended: Tensor, hidden: Tensor) -> None:
    """hidden[T, H] += post_norm(o_proj(attended))."""
    change = ctx.workspace.take(*hidden.shape)
    ctx.kernels.linear(attended, weights["o_proj"], change, weights.get("o_bias"))
    add_normed(ctx, weights, change, hidden)


def mlp(ctx: Context, layer: int, weights: Weights, hidden: Tensor) -> None:
    """hidden[T, H] += post_norm(down(silu(gate) * up)) of hidden."""
    add_inner(ctx, weights, gate_and_up(ctx, weights, hidden), hidden)


def inner_rows(ctx: Context, weights: Weights, hidden: Tensor, out: Tensor) -> None:
    """out[T, I] = silu(gate) * up of hidden."""
    gate_and_up_into(ctx, weights, hidden, out)


def add_inner(ctx: Context, weights: Weights, inner: Tensor, hidden: Tensor) -> None:
    """hidden[T, H] += post_norm(down(inner))."""
    change = ctx.workspace.take(*hidden.shape)
    ctx.kernels.linear(inner, weights["down_proj"], change)
    add_normed(ctx, weights, change, hidden)


def add_normed(ctx: Context, weights: Weights, change: Tensor, hidden: Tensor) -> None:
    """hidden[T, H] += post_norm(change), which is overwritten."""
    ctx.kernels.rms_norm(change, weights["post_norm"], ctx.config.norm_eps, change)
    ctx.kernels.add(change, hidden)


def norm_whole(ctx: Context, weights: Weights, made: QKV) -> QKV:
    """The same with queries and keys normalised in place, all heads together."""
    for heads, role in zip(made, ("q_norm", "k_norm"), strict=False):
        rows = heads.flatten(1)
        ctx.kernels.rms_norm(rows, weights[role], ctx.config.norm_eps, rows)
    return made
