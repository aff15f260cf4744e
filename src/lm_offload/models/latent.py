"""Multi-head latent attention (DeepSeek-V2, 2024): all heads from one narrow vector of a token.

::

    hidden -> kv_a -> [latent | rotated]            one for all heads
    norm(latent) -> kv_b -> [others | value]        of each head
    a head here: [rotated | others | 0], [value | 0], all as wide as the widest

What is kept of a token is the keys and values of all heads, not the narrow vector.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lm_offload.models.blocks import project
from lm_offload.models.llama import input_norm

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.arch.shapes import LatentShape
    from lm_offload.models.base import QKV, Context, Weights

NORM_EPS = 1e-6  # of the narrow vectors, whatever that of the model is


def qkv(ctx: Context, weights: Weights, hidden: Tensor) -> QKV:
    """Queries, keys and values of norm(hidden), what is rotated of a head first."""
    latent = ctx.config.latent
    assert latent is not None
    normed = input_norm(ctx, weights, hidden)
    queries = _queries(ctx, weights, normed)
    narrow = project(ctx, weights, normed, "kv_a_proj", "kv_a_bias")
    return _put_together(ctx, latent, queries, *_keys_and_values(ctx, latent, weights, narrow))


def add_attended(ctx: Context, weights: Weights, attended: Tensor, hidden: Tensor) -> None:
    """hidden[T, H] += o_proj(attended), without what fills up the values of a head."""
    latent, config = ctx.config.latent, ctx.config
    assert latent is not None
    rows = len(attended)
    values = ctx.workspace.take(rows, config.num_heads, latent.value_dim)
    heads = attended.view(rows, config.num_heads, config.head_dim)
    values.copy_(heads[..., : latent.value_dim])
    ctx.kernels.linear_add(values.flatten(1), weights["o_proj"], hidden, weights.get("o_bias"))


def _queries(ctx: Context, weights: Weights, normed: Tensor) -> Tensor:
    """[T, heads * head_dim] of normed[T, H], what is rotated last."""
    if "q_proj" in weights:
        return project(ctx, weights, normed, "q_proj", "q_bias")
    narrow = project(ctx, weights, normed, "q_a_proj", "q_a_bias")
    ctx.kernels.rms_norm(narrow, weights["q_a_norm"], NORM_EPS, narrow)
    return project(ctx, weights, narrow, "q_b_proj", "q_b_bias")


def _keys_and_values(
    ctx: Context, latent: LatentShape, weights: Weights, narrow: Tensor
) -> tuple[Tensor, Tensor]:
    """What is rotated of keys [T, rotated_dim]; the rest of a head and its values [T, made]."""
    normed = ctx.workspace.take(len(narrow), latent.kv_rank)
    normed.copy_(narrow[:, : latent.kv_rank])
    ctx.kernels.rms_norm(normed, weights["kv_a_norm"], NORM_EPS, normed)
    made = project(ctx, weights, normed, "kv_b_proj", "kv_b_bias")
    return narrow[:, latent.kv_rank :], made


def _put_together(
    ctx: Context, latent: LatentShape, queries: Tensor, rotated: Tensor, made: Tensor
) -> QKV:
    """Queries, keys and values [T, heads, head_dim of the config]."""
    shape, others = (len(queries), ctx.config.num_heads, -1), latent.other_dim
    q, kv, turned = queries.view(shape), made.view(shape), rotated[:, None].expand(shape)
    return (
        _side_by_side(ctx, q[..., others:], q[..., :others]),
        _side_by_side(ctx, turned, kv[..., :others]),
        _side_by_side(ctx, kv[..., others:]),
    )


def _side_by_side(ctx: Context, *parts: Tensor) -> Tensor:
    """The parts [T, heads, n] of a head and zeros behind them [T, heads, head_dim]."""
    rows, heads, _ = parts[0].shape
    whole, start = ctx.workspace.take(rows, heads, ctx.config.head_dim), 0
    for part in parts:
        whole[..., start : start + part.shape[2]] = part
        start += part.shape[2]
    whole[..., start:] = 0.0
    return whole
