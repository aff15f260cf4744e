"""Norms that take the mean away, and may have biases, where others divide by the root alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from lm_offload.models.base import Context, Weights
from lm_offload.models.blocks import project_qkv

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.models.base import QKV


def qkv(ctx: Context, weights: Weights, hidden: Tensor) -> QKV:
    """Queries, keys and values of norm(hidden)."""
    return project_qkv(ctx, weights, input_norm(ctx, weights, hidden))


def input_norm(ctx: Context, weights: Weights, hidden: Tensor) -> Tensor:
    """The normalised hidden states [T, H] in a new buffer."""
    normed = ctx.workspace.take(*hidden.shape)
    layer_norm(ctx, hidden, weights["input_norm"], weights.get("input_norm_bias"), normed)
    return normed


def final_norm(ctx: Context, weights: Weights, hidden: Tensor, out: Tensor) -> None:
    """out[R, H] = norm(hidden)."""
    layer_norm(ctx, hidden, weights["norm"], weights.get("norm_bias"), out)


def layer_norm(ctx: Context, x: Tensor, weight: Tensor, bias: Tensor | None, out: Tensor) -> None:
    """out[T, H] = (x - mean) / std * weight[H] (+ bias[H])."""
    if bias is None:
        bias = torch.zeros(x.shape[1], device=x.device)
    ctx.kernels.layer_norm(x, weight, bias, ctx.config.norm_eps, out)
