"""A mixture of experts instead of one MLP: a router chooses for each row, experts add to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch

from lm_offload.kernels.expert_choice import ChoiceRule
from lm_offload.models.base import Context, Weights
from lm_offload.models.blocks import gate_and_up

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.kernels.expert_choice import Choice


class ExpertRows(NamedTuple):
    """What one expert works on: some rows of the sweep, by number, and the scales of its result."""

    rows: Tensor  # [m] int64
    scales: Tensor  # [m] f32


def route(ctx: Context, weights: Weights, hidden: Tensor, normed: Tensor, choice: Choice) -> None:
    """normed[T, H] = what the experts read of hidden[T, H]; choice = who is to read it."""
    most_likely(ctx, router_scores(ctx, weights, hidden, normed), choice)


def most_likely(ctx: Context, scores: Tensor, choice: Choice) -> None:
    """choice = the experts with the highest scores [T, E], by their probabilities."""
    rule = ChoiceRule(ctx.config.experts_per_token, ctx.config.scaled_to_one)
    ctx.kernels.choose_experts(scores, rule, None, choice)


def router_scores(ctx: Context, weights: Weights, hidden: Tensor, normed: Tensor) -> Tensor:
    """[T, E] of the experts, from normed[T, H] = norm(hidden[T, H])."""
    ctx.kernels.rms_norm(hidden, weights["input_norm"], ctx.config.norm_eps, normed)
    return scores_of(ctx, weights, normed)


def scores_of(ctx: Context, weights: Weights, normed: Tensor) -> Tensor:
    """[T, E] of the experts, from what they read, normed[T, H]."""
    router = weights["router"]
    scores = ctx.workspace.take(normed.shape[0], router.shape[0])
    ctx.kernels.linear(normed, router, scores, weights.get("router_bias"))
    return scores


def add_expert(
    ctx: Context, weights: Weights, chosen: ExpertRows, normed: Tensor, hidden: Tensor
) -> None:
    """hidden[rows] += scales * down(activation(gate) * up) of normed[rows]."""
    add_gated(ctx, weights, chosen, normed, hidden, gate_and_up)


def add_gated(
    ctx: Context,
    weights: Weights,
    chosen: ExpertRows,
    normed: Tensor,
    hidden: Tensor,
    inner_of: Callable[[Context, Weights, Tensor], Tensor],
) -> None:
    """hidden[rows] += scales * down(inner_of(normed[rows])), where that is [m, I]."""
    count, width = len(chosen.rows), normed.shape[1]
    x = torch.index_select(normed, 0, chosen.rows, out=ctx.workspace.take(count, width))
    inner = inner_of(ctx, weights, x)
    added = ctx.workspace.take(count, width)
    ctx.kernels.linear(inner, weights["down_proj"], added, weights.get("down_bias"))
    hidden.index_add_(0, chosen.rows, added.mul_(chosen.scales[:, None]))
