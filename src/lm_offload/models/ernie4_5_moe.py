"""ERNIE 4.5 with experts in some layers, and some that every token uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lm_offload.models import ernie4_5
from lm_offload.models.choices import add_shared, choose
from lm_offload.models.ernie4_5 import (
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

    from lm_offload.kernels.expert_choice import Choice
    from lm_offload.models.base import Context, Weights

KERNELS_ONLY = ernie4_5.KERNELS_ONLY | {"router", "expert", "final_norm", "head"}

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


def route(ctx: Context, weights: Weights, hidden: Tensor, normed: Tensor, choice: Choice) -> None:
    """normed[T, H] = what the experts read of hidden[T, H]; the shared one is added at once.

    A bias of each expert counts when experts are chosen, not in how much of them is added.
    """
    scores = router_scores(ctx, weights, hidden, normed)
    choose(ctx, scores, weights, choice)
    add_shared(ctx, weights, normed, hidden)
