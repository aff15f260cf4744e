"""LFM2 with experts behind the first layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lm_offload.models import lfm2
from lm_offload.models.choices import rule_of
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

KERNELS_ONLY = lfm2.KERNELS_ONLY | {"router", "expert"}
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
    rule = rule_of(ctx.config, sigmoids=True)._replace(added_to_sum=ADDED_TO_SUM)
    scores = router_scores(ctx, weights, hidden, normed)
    ctx.kernels.choose_experts(scores, rule, weights.get("choice_bias"), choice)
