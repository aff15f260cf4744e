"""LFM2 with experts behind the first layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from lm_offload.kernels.expert_choice import mark_no_numbers, sigmoid
from lm_offload.models.experts import add_expert, router_scores
from lm_offload.models.lfm2 import (
    add_attended,
    embed,
    embed_rows,
    final_norm,
    head,
    mlp,
    qkv,
    recur,
)

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.kernels.expert_choice import Choice
    from lm_offload.models.base import Context, Weights

KERNELS_ONLY = frozenset({"attention", "recurrent", "mlp"})
ADDED_TO_SUM = 1e-6  # of the scores of the experts that a row uses

__all__ = [
    "KERNELS_ONLY",
    "add_attended",
    "add_expert",
    "embed",
    "embed_rows",
    "final_norm",
    "head",
    "mlp",
    "qkv",
    "recur",
    "route",
]


def route(ctx: Context, weights: Weights, hidden: Tensor, normed: Tensor, choice: Choice) -> None:
    """normed[T, H] = what the experts read of hidden[T, H]; choice = who is to read it.

    A score is a sigmoid; a bias of each expert counts when experts are chosen alone.
    """
    config, ranks = ctx.config, sigmoid(router_scores(ctx, weights, hidden, normed))
    scores = ranks
    if config.choice_bias:
        bias = weights["choice_bias"]
        ranks = torch.add(scores, bias, out=ctx.workspace.take(*scores.shape))
    experts = ranks.topk(config.experts_per_token).indices
    scales = scores.gather(1, experts)
    if config.scaled_to_one:
        scales /= scales.sum(-1, keepdim=True).add_(ADDED_TO_SUM)
    mark_no_numbers(scores, ranks, scales)
    choice.experts.copy_(experts)
    torch.mul(scales, config.routed_scale, out=choice.scales)
