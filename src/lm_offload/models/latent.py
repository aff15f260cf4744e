"""Multi-head latent attention (DeepSeek-V2, 2024): all heads read one narrow vector of a token.

::

    hidden -> kv_a -> [latent | rotated]       norm(latent) and rotated are all that is kept
    key of head h   [rotated | K_h latent]     kv_b has the rows of K_h, then those of V_h
    score           q_rotated . rotated + (q_other K_h) . latent
    value of head h V_h (sum of weights * latent)

So keys and values are one head of [rotated | latent] for all heads of queries. Products are made
head by head with the kernels of all other products: a row does not depend on others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lm_offload.arch.weight_spec import LATENT_UP
from lm_offload.models.blocks import project
from lm_offload.models.llama import input_norm

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.arch.shapes import LatentShape
    from lm_offload.models.base import QKV, Context, Weights

NORM_EPS = 1e-6  # of the narrow vectors, whatever that of the model is


def qkv(ctx: Context, weights: Weights, hidden: Tensor) -> QKV:
    """Of norm(hidden): queries [T, heads, kept_dim]; keys [T, 1, kept_dim], the values too."""
    latent = _shape(ctx)
    normed = input_norm(ctx, weights, hidden)
    made = _queries(ctx, weights, normed).view(len(hidden), ctx.config.num_heads, -1)
    kept = _kept(ctx, latent, weights, project(ctx, weights, normed, "kv_a_proj", "kv_a_bias"))
    queries = ctx.workspace.take(len(hidden), ctx.config.num_heads, latent.kept_dim)
    queries[..., : latent.rotated_dim] = made[..., latent.other_dim :]
    _absorb_keys(ctx, latent, weights[LATENT_UP], made, queries)
    return queries, kept, kept


def add_attended(ctx: Context, weights: Weights, attended: Tensor, hidden: Tensor) -> None:
    """hidden[T, H] += o_proj(values), of attended[T, heads * kept_dim]."""
    latent, heads = _shape(ctx), ctx.config.num_heads
    mixed = attended.view(len(attended), heads, -1)[..., latent.rotated_dim :]
    values = ctx.workspace.take(len(attended), heads, latent.value_dim)
    x = ctx.workspace.take(len(attended), latent.kv_rank)
    out = ctx.workspace.take(len(attended), latent.value_dim)
    for head, matrix in enumerate(_of_heads(ctx, weights[LATENT_UP])):
        ctx.kernels.linear(x.copy_(mixed[:, head]), matrix[latent.other_dim :], out)
        values[:, head] = out
    ctx.kernels.linear_add(values.flatten(1), weights["o_proj"], hidden, weights.get("o_bias"))


def _absorb_keys(
    ctx: Context, latent: LatentShape, up: Tensor, made: Tensor, queries: Tensor
) -> None:
    """What keys are made with is multiplied into made[T, heads, head_dim], not into each key."""
    others, rows = latent.other_dim, len(made)
    turned = ctx.workspace.take(latent.kv_rank, others)
    x, out = ctx.workspace.take(rows, others), ctx.workspace.take(rows, latent.kv_rank)
    for head, matrix in enumerate(_of_heads(ctx, up)):
        turned.copy_(matrix[:others].T)
        ctx.kernels.linear(x.copy_(made[:, head, :others]), turned, out)
        queries[:, head, latent.rotated_dim :] = out


def _queries(ctx: Context, weights: Weights, normed: Tensor) -> Tensor:
    """[T, heads * head_dim] of normed[T, H], what is rotated last."""
    if "q_proj" in weights:
        return project(ctx, weights, normed, "q_proj", "q_bias")
    narrow = project(ctx, weights, normed, "q_a_proj", "q_a_bias")
    ctx.kernels.rms_norm(narrow, weights["q_a_norm"], NORM_EPS, narrow)
    return project(ctx, weights, narrow, "q_b_proj", "q_b_bias")


def _kept(ctx: Context, latent: LatentShape, weights: Weights, narrow: Tensor) -> Tensor:
    """[T, 1, kept_dim] of narrow[T, latent | rotated], what is rotated first."""
    normed = ctx.workspace.take(len(narrow), latent.kv_rank)
    normed.copy_(narrow[:, : latent.kv_rank])
    ctx.kernels.rms_norm(normed, weights["kv_a_norm"], NORM_EPS, normed)
    kept = ctx.workspace.take(len(narrow), 1, latent.kept_dim)
    kept[:, 0, : latent.rotated_dim] = narrow[:, latent.kv_rank :]
    kept[:, 0, latent.rotated_dim :] = normed
    return kept


def _of_heads(ctx: Context, up: Tensor) -> Tensor:
    """[heads, other_dim + value_dim, kv_rank]."""
    return up.view(ctx.config.num_heads, -1, up.shape[1])


def _shape(ctx: Context) -> LatentShape:
    latent = ctx.config.latent
    assert latent is not None
    return latent
