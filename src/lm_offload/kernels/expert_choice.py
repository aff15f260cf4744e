"""Which experts of a mixture a row uses, from its router's scores; in plain torch.

DeepSeek-V3 (2024), section 2.1.2: a score becomes a share by a sigmoid, in others by a softmax.
Each expert may have a bias that counts when experts are chosen, not in how much of them is added,
and those chosen may be of the best groups of neighbours alone. SparseMixer (Liu et al. 2024)
chooses one after the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from torch import Tensor

LEAST_SUM = 1e-20  # of scales, so that they can be divided by it


class Choice(NamedTuple):
    """The experts that each of T rows uses, and how much of what each of them says is added."""

    experts: Tensor  # [T, k] int64
    scales: Tensor  # [T, k] f32


class ChoiceRule(NamedTuple):
    """How a model chooses."""

    used: int  # experts of a row
    to_one: bool  # what is added of them sums to one, before `scale`
    sigmoids: bool = False  # of scores, else a softmax of each row
    groups: int = 1
    groups_used: int = 1
    summed: int = 1  # a group is as good as the sum of so many of its best
    scale: float = 1.0
    added_to_sum: float = 0.0  # of scales, before it is made one
    sharpness: float = 1.0  # scores are multiplied by it, which is above zero


def choose_experts(
    scores: Tensor,
    rule: ChoiceRule,
    bias: Tensor | None,
    choice: Choice,
    factors: Tensor | None = None,
) -> None:
    """choice = who reads the rows of scores[T, E], with a bias[E] in ranks alone.

    Scales are multiplied by factors[E] in the end.
    """
    scores = scores * rule.sharpness
    shares = sigmoid(scores) if rule.sigmoids else scores.softmax(-1)
    ranks = _ranks(scores, shares, rule, bias)
    experts = _in_best_groups(ranks, rule).topk(rule.used).indices
    scales = shares.gather(1, experts)
    if rule.to_one:
        sums = scales.sum(-1, keepdim=True).add_(rule.added_to_sum)
        scales /= sums.clamp_(min=LEAST_SUM)
    mark_no_numbers(scores, ranks, scales)
    choice.experts.copy_(experts)
    torch.mul(scales, rule.scale, out=choice.scales)
    if factors is not None:
        choice.scales.mul_(factors.float()[experts])


def _ranks(scores: Tensor, shares: Tensor, rule: ChoiceRule, bias: Tensor | None) -> Tensor:
    """[T, E] by which groups and experts are chosen.

    Neighbouring scores may have one share, so shares rank them only where they are added to.
    """
    if bias is None and rule.groups_used == rule.groups:
        return scores
    return shares if bias is None else shares + bias


def mark_no_numbers(scores: Tensor, ranks: Tensor, scales: Tensor) -> None:
    """scales[T, k] = NaN in rows with a score or a rank [T, E] that is NaN or infinitely high.

    An expert that is passed over would hide weights that are no numbers; masks of -inf are taken.
    """
    sound = (torch.maximum(scores, ranks) < torch.inf).all(-1, keepdim=True)
    scales.masked_fill_(~sound, torch.nan)


def _in_best_groups(ranks: Tensor, rule: ChoiceRule) -> Tensor:
    """ranks[T, E], those of other groups put last."""
    if rule.groups_used == rule.groups:
        return ranks
    grouped = ranks.view(len(ranks), rule.groups, ranks.shape[1] // rule.groups)
    best = grouped.topk(rule.summed).values.sum(-1).topk(rule.groups_used).indices
    others = torch.ones(len(ranks), rule.groups, dtype=torch.bool).scatter_(1, best, False)
    return grouped.masked_fill(others[..., None], -torch.inf).view(ranks.shape)


def choose_close(scores: Tensor, margin: float, choice: Choice) -> None:
    """choice = the best expert of each row of scores[T, E], then the best of the others.

    How much of one is added is its share among those left whose scores are close to its own.
    """
    left = scores.clone()
    for place in range(choice.experts.shape[1]):
        best, expert = left.max(-1, keepdim=True)
        distance = (best - scores) / torch.maximum(scores.abs(), best)
        close = left.masked_fill(distance > margin, -torch.inf)
        choice.experts[:, place : place + 1] = expert
        choice.scales[:, place : place + 1] = close.softmax(-1).gather(1, expert)
        left.scatter_(1, expert, -torch.inf)
    mark_no_numbers(scores, scores, choice.scales)


def sigmoid(scores: Tensor) -> Tensor:
    """sigmoid(scores) [T, E], made so that a row does not depend on the others.

    torch's sigmoid of the last few values is another function: a softmax of 0 and x is the same.
    """
    return torch.stack((torch.zeros_like(scores), scores), -1).softmax(-1)[..., 1]
