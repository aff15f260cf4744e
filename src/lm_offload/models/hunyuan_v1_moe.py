"""Hunyuan-A13B: experts chosen by probability, and one that every token uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lm_offload.models import experts
from lm_offload.models.choices import add_shared
from lm_offload.models.experts import add_expert
from lm_offload.models.hunyuan_v1_dense import (
    add_attended,
    after_rotation,
    embed,
    embed_rows,
    final_norm,
    head,
    qkv,
)

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.kernels.expert_choice import Choice
    from lm_offload.models.base import Context, Weights

KERNELS_ONLY = frozenset({"attention", "router", "expert", "final_norm", "head"})

__all__ = [
    "KERNELS_ONLY",
    "add_attended",
    "add_expert",
    "after_rotation",
    "embed",
    "embed_rows",
    "final_norm",
    "head",
    "qkv",
    "route",
]


def route(ctx: Context, weights: Weights, hidden: Tensor, normed: Tensor, choice: Choice) -> None:
    """normed[T, H] = what the experts read of hidden[T, H]; the shared one is added at once."""
    experts.route(ctx, weights, hidden, normed, choice)
    add_shared(ctx, weights, normed, hidden)
