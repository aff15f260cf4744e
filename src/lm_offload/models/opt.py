"""OPT: learned positions, layer norms before (or, in OPT-350m, after) each block, plain MLP."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from lm_offload.arch.layout_opt import POSITION_OFFSET
from lm_offload.models.base import Context, Weights
from lm_offload.models.blocks import project, project_qkv

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.arch.config import ModelConfig
    from lm_offload.models.base import QKV

KERNELS_ONLY = frozenset({"attention"})


def embed_rows(config: ModelConfig, token_ids: Tensor, positions: Tensor) -> dict[str, Tensor]:
    """One row of the token table and one of the position table for each token."""
    return {"tokens": token_ids, "positions": positions + POSITION_OFFSET}


def embed(ctx: Context, rows: Weights, hidden: Tensor, weights: Weights) -> None:
    """hidden[T, H] = tokens (widened by project_in where they are narrower) + positions."""
    tokens, take = rows["tokens"], ctx.workspace.take
    if "project_in" in weights:
        narrow = take(*tokens.shape)
        narrow.copy_(tokens)
        ctx.kernels.linear(narrow, weights["project_in"], hidden)
    else:
        hidden.copy_(tokens)
    positions = take(*hidden.shape)
    positions.copy_(rows["positions"])
    hidden.add_(positions)


def qkv(ctx: Context, weights: Weights, hidden: Tensor) -> QKV:
    """Queries, keys and values of hidden, normalised if the layer norm comes first."""
    return project_qkv(ctx, weights, _block_input(ctx, weights, hidden))


def add_attended(ctx: Context, weights: Weights, attended: Tensor, hidden: Tensor) -> None:
    """hidden[T, H] += o_proj(attended), normalised if the layer norm comes last."""
    ctx.kernels.linear_add(attended, weights["o_proj"], hidden, weights.get("o_bias"))
    _block_output(ctx, weights, hidden)


def mlp(ctx: Context, layer: int, weights: Weights, hidden: Tensor) -> None:
    """hidden[T, H] += down(activation(up(...))), with the layer norm before or after it."""
    inner = project(ctx, weights, _block_input(ctx, weights, hidden), "up_proj", "up_bias")
    if ctx.config.activation == "relu":
        inner.relu_()
    else:
        torch.ops.aten.gelu_(inner)
    ctx.kernels.linear_add(inner, weights["down_proj"], hidden, weights.get("down_bias"))
    _block_output(ctx, weights, hidden)


def final_norm(ctx: Context, weights: Weights, hidden: Tensor, out: Tensor) -> None:
    """out[R, :embed_size] = what the head reads; the rest of its columns is left alone."""
    if "project_out" not in weights:
        _norm_or_copy(ctx, weights, hidden, out)
        return
    if ctx.config.final_norm:
        normed = ctx.workspace.take(*hidden.shape)
        _layer_norm(ctx, weights, hidden, normed)
        hidden = normed
    ctx.kernels.linear(hidden, weights["project_out"], out[:, : ctx.config.embed_size])


def head(ctx: Context, weights: Weights, normed: Tensor, logits: Tensor) -> None:
    """logits[R, rows] of one part of the vocabulary."""
    ctx.kernels.linear(normed[:, : ctx.config.embed_size], weights["head"], logits)


def _block_input(ctx: Context, weights: Weights, hidden: Tensor) -> Tensor:
    if not ctx.config.norm_first:
        return hidden
    normed = ctx.workspace.take(*hidden.shape)
    _layer_norm(ctx, weights, hidden, normed)
    return normed


def _block_output(ctx: Context, weights: Weights, hidden: Tensor) -> None:
    if not ctx.config.norm_first:
        _layer_norm(ctx, weights, hidden, hidden)


def _norm_or_copy(ctx: Context, weights: Weights, hidden: Tensor, out: Tensor) -> None:
    if ctx.config.final_norm:
        _layer_norm(ctx, weights, hidden, out)
    else:
        out.copy_(hidden)


def _layer_norm(ctx: Context, weights: Weights, x: Tensor, out: Tensor) -> None:
    ctx.kernels.layer_norm(x, weights["norm"], weights["norm_bias"], ctx.config.norm_eps, out)
