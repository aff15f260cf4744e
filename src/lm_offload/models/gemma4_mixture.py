"""Experts of Gemma 4: beside an MLP that every token uses, and normalised together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lm_offload.models.base import Context, Weights
from lm_offload.models.blocks import gate_and_up
from lm_offload.models.choices import rule_of
from lm_offload.models.experts import scores_of
from lm_offload.models.llama import input_norm
from lm_offload.models.olmo2 import add_normed

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.kernels.expert_choice import Choice


def route(ctx: Context, weights: Weights, hidden: Tensor, normed: Tensor, choice: Choice) -> None:
    """normed[T, H] = what the experts read of hidden[T, H]; the router reads another norm of it."""
    eps, x = ctx.config.norm_eps, ctx.workspace.take(*hidden.shape)
    ctx.kernels.rms_norm(hidden, weights["router_norm"], eps, x)
    scores, factors = scores_of(ctx, weights, x), weights["expert_scales"]
    rule = rule_of(ctx.config, sigmoids=False)._replace(sharpness=hidden.shape[1] ** -0.5)
    ctx.kernels.choose_experts(scores, rule, None, choice, factors)
    ctx.kernels.rms_norm(hidden, weights["input_norm"], eps, normed)


def add_sums(ctx: Context, weights: Weights, normed: Tensor, sums: Tensor, hidden: Tensor) -> None:
    """hidden[T, H] = (hidden + post_norm(dense_norm(MLP) + sum_norm(sums))) * scale."""
    eps, added = ctx.config.norm_eps, input_norm(ctx, weights, hidden)
    inner = gate_and_up(ctx, weights, added)
    ctx.kernels.linear(inner, weights["down_proj"], added)
    ctx.kernels.rms_norm(added, weights["dense_norm"], eps, added)
    ctx.kernels.rms_norm(sums, weights["sum_norm"], eps, sums)
    ctx.kernels.add(sums, added)
    add_normed(ctx, weights, added, hidden)
    ctx.kernels.scale(hidden, weights["layer_scale"])
