"""Who reads a row, where that is more than the largest of a router's scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lm_offload.kernels.expert_choice import ChoiceRule
from lm_offload.models.base import Context, Weights
from lm_offload.models.blocks import gate_and_up
from lm_offload.models.experts import router_scores

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.arch.config import ModelConfig
    from lm_offload.kernels.expert_choice import Choice


def route(ctx: Context, weights: Weights, hidden: Tensor, normed: Tensor, choice: Choice) -> None:
    """normed[T, H] = what the experts read of hidden[T, H]; the shared one is added at once."""
    route_by_sigmoids(ctx, weights, hidden, normed, choice)
    add_shared(ctx, weights, normed, hidden)


def route_by_sigmoids(
    ctx: Context, weights: Weights, hidden: Tensor, normed: Tensor, choice: Choice
) -> None:
    """The same without a shared expert; a group is as good as the sum of its two best."""
    scores = router_scores(ctx, weights, hidden, normed)
    choose(ctx, scores, weights, choice, sigmoids=True, summed=2)


def route_by_probability(
    ctx: Context, weights: Weights, hidden: Tensor, normed: Tensor, choice: Choice, summed: int
) -> None:
    """As `route` where a score is a probability, and a group as good as its `summed` best."""
    scores = router_scores(ctx, weights, hidden, normed)
    choose(ctx, scores, weights, choice, summed=summed)
    add_shared(ctx, weights, normed, hidden)


def choose(
    ctx: Context,
    scores: Tensor,
    weights: Weights,
    choice: Choice,
    sigmoids: bool = False,
    summed: int = 1,
) -> None:
    """choice = the experts that rank highest [T, E], of the best groups, with biases if any."""
    rule = rule_of(ctx.config, sigmoids, summed)
    ctx.kernels.choose_experts(scores, rule, weights.get("choice_bias"), choice)


def rule_of(config: ModelConfig, sigmoids: bool, summed: int = 1) -> ChoiceRule:
    """How a model with this config chooses, a group being as good as its `summed` best."""
    groups = config.expert_groups, config.groups_per_token, summed
    return ChoiceRule(
        config.experts_per_token, config.scaled_to_one, sigmoids, *groups, config.routed_scale
    )


def add_shared(ctx: Context, weights: Weights, normed: Tensor, hidden: Tensor) -> None:
    """hidden[T, H] += what the expert that every row uses makes of normed[T, H]."""
    if ctx.config.shared_size:
        inner = gate_and_up(ctx, weights, normed)
        ctx.kernels.linear_add(inner, weights["down_proj"], hidden)
