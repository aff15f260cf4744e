"""ERNIE 4.5 with experts in some layers, and some that every token uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from lm_offload.models.choices import add_shared, chosen
from lm_offload.models.ernie4_5 import (
    KERNELS_ONLY,
    add_attended,
    embed,
    embed_rows,
    final_norm,
    head,
    mlp,
    qkv,
)
from lm_offload.models.experts import add_expert, router_scores

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.models.base import Context, Weights
    from lm_offload.models.experts import Choice

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
    "route",
]


def route(ctx: Context, weights: Weights, hidden: Tensor, normed: Tensor) -> Choice:
    """normed[T, H] = what the experts read of hidden[T, H]; the shared one is added at once.

    A bias of each expert counts when experts are chosen, not in how much of them is added.
    """
    scores = router_scores(ctx, weights, hidden, normed).softmax(-1)
    ranks = torch.add(scores, weights["choice_bias"], out=ctx.workspace.take(*scores.shape))
    choice = chosen(ctx, scores, ranks)
    add_shared(ctx, weights, normed, hidden)
    return choice
