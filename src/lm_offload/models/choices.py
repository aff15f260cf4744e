"""Who reads a row, where that is more than the largest of a router's scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from lm_offload.models.base import Context, Weights
from lm_offload.models.blocks import gate_and_up
from lm_offload.models.experts import Choice, router_scores

if TYPE_CHECKING:
    from torch import Tensor

LEAST_SUM = 1e-20  # of scores, so that they can be divided by it


def route(ctx: Context, weights: Weights, hidden: Tensor, normed: Tensor) -> Choice:
    """normed[T, H] = what the experts read of hidden[T, H]; the shared one is added at once."""
    choice = route_by_sigmoids(ctx, weights, hidden, normed)
    add_shared(ctx, weights, normed, hidden)
    return choice


def route_by_sigmoids(ctx: Context, weights: Weights, hidden: Tensor, normed: Tensor) -> Choice:
    """The same without a shared expert.

    DeepSeek-V3 (2024), section 2.1.2: a score is a sigmoid, and each expert has a bias that counts
    when experts are chosen, not in how much of them is added.
    """
    scores = sigmoid(ctx, router_scores(ctx, weights, hidden, normed))
    ranks = torch.add(scores, weights["choice_bias"], out=ctx.workspace.take(*scores.shape))
    return chosen(ctx, scores, in_best_groups(ctx, ranks, summed=2))


def route_by_probability(
    ctx: Context, weights: Weights, hidden: Tensor, normed: Tensor, summed: int
) -> Choice:
    """As `route` where a score is a probability, and a group as good as its `summed` best."""
    scores = router_scores(ctx, weights, hidden, normed).softmax(-1)
    ranks = scores
    if ctx.config.expert_groups > 1:
        copied = ctx.workspace.take(*scores.shape).copy_(scores)
        ranks = in_best_groups(ctx, copied, summed)
    choice = chosen(ctx, scores, ranks)
    add_shared(ctx, weights, normed, hidden)
    return choice


def add_shared(ctx: Context, weights: Weights, normed: Tensor, hidden: Tensor) -> None:
    """hidden[T, H] += what the expert that every row uses makes of normed[T, H]."""
    if ctx.config.shared_size:
        inner = gate_and_up(ctx, weights, normed)
        ctx.kernels.linear_add(inner, weights["down_proj"], hidden)


def chosen(ctx: Context, scores: Tensor, ranks: Tensor) -> Choice:
    """The experts that rank highest [T, E], by their scores [T, E]."""
    config = ctx.config
    experts = ranks.topk(config.experts_per_token).indices
    scales = scores.gather(1, experts)
    if config.scaled_to_one:
        scales /= scales.sum(-1, keepdim=True).clamp_(min=LEAST_SUM)
    return Choice(experts, scales.mul_(config.routed_scale))


def in_best_groups(ctx: Context, ranks: Tensor, summed: int) -> Tensor:
    """ranks[T, E], those of other groups put last, in place.

    A group of neighbours is as good as the sum of its `summed` best.
    """
    groups, used = ctx.config.expert_groups, ctx.config.groups_per_token
    if used == groups:
        return ranks
    grouped = ranks.view(len(ranks), groups, -1)
    best = grouped.topk(summed).values.sum(-1).topk(used).indices
    others = torch.ones(len(ranks), groups, dtype=torch.bool).scatter_(1, best, False)
    grouped.masked_fill_(others[..., None], -torch.inf)
    return ranks


def sigmoid(ctx: Context, scores: Tensor) -> Tensor:
    """sigmoid(scores) [T, E], made so that a row does not depend on the others.

    torch's sigmoid of the last few values is another function: a softmax of 0 and x is the same.
    """
    pairs, shares = (ctx.workspace.take(*scores.shape, 2) for _ in range(2))
    pairs[..., 0] = 0.0
    pairs[..., 1] = scores
    torch.softmax(pairs, -1, out=shares)
    return scores.copy_(shares[..., 1])
