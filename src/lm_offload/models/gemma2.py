"""Gemma 2: scaled embeddings, norms before and after both blocks, softcaps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from lm_offload.models.base import Context, Weights
from lm_offload.models.blocks import gate_and_up, gate_and_up_into, project_qkv
from lm_offload.models.llama import KERNELS_ONLY, embed_rows, head

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


def embed(ctx: Context, rows: Weights, hidden: Tensor, weights: Weights) -> None:
    """hidden[T, H] = rows * sqrt(H)."""
    tokens = rows["tokens"]
    hidden.copy_(tokens)
    # The model was trained with the scale rounded to the dtype of its weights.
    hidden.mul_(torch.tensor(ctx.config.embed_scale, dtype=tokens.dtype).item())


def qkv(ctx: Context, weights: Weights, hidden: Tensor) -> QKV:
    """Queries, keys and values of norm(hidden)."""
    return project_qkv(ctx, weights, input_norm(ctx, weights, hidden))


def add_attended(ctx: Context, weights: Weights, attended: Tensor, hidden: Tensor) -> None:
    """hidden[T, H] += post_norm(o_proj(attended))."""
    change = ctx.workspace.take(*hidden.shape)
    ctx.kernels.linear(attended, weights["o_proj"], change, weights.get("o_bias"))
    add_normed(ctx, weights, change, hidden)


def mlp(ctx: Context, layer: int, weights: Weights, hidden: Tensor) -> None:
    """hidden[T, H] += post_norm(down(gelu(gate) * up)) of norm(hidden)."""
    normed = input_norm(ctx, weights, hidden)
    _add_down(ctx, weights, gate_and_up(ctx, weights, normed), normed, hidden)


def inner_rows(ctx: Context, weights: Weights, hidden: Tensor, out: Tensor) -> None:
    """out[T, I] = gelu(gate) * up of norm(hidden)."""
    gate_and_up_into(ctx, weights, input_norm(ctx, weights, hidden), out)


def add_inner(ctx: Context, weights: Weights, inner: Tensor, hidden: Tensor) -> None:
    """hidden[T, H] += post_norm(down(inner))."""
    _add_down(ctx, weights, inner, ctx.workspace.take(*hidden.shape), hidden)


def final_norm(ctx: Context, weights: Weights, hidden: Tensor, out: Tensor) -> None:
    """out[R, H] = norm(hidden)."""
    ctx.kernels.rms_norm_plus_one(hidden, weights["norm"], ctx.config.norm_eps, out)


def input_norm(ctx: Context, weights: Weights, hidden: Tensor) -> Tensor:
    """The normalised hidden states [T, H] in a new buffer."""
    normed = ctx.workspace.take(*hidden.shape)
    ctx.kernels.rms_norm_plus_one(hidden, weights["input_norm"], ctx.config.norm_eps, normed)
    return normed


def add_normed(ctx: Context, weights: Weights, change: Tensor, hidden: Tensor) -> None:
    """hidden[T, H] += post_norm(change), which is overwritten."""
    ctx.kernels.rms_norm_plus_one(change, weights["post_norm"], ctx.config.norm_eps, change)
    ctx.kernels.add(change, hidden)


def _add_down(
    ctx: Context, weights: Weights, inner: Tensor, change: Tensor, hidden: Tensor
) -> None:
    """hidden[T, H] += change[T, H] = post_norm(down(inner))."""
    ctx.kernels.linear(inner, weights["down_proj"], change)
    add_normed(ctx, weights, change, hidden)
