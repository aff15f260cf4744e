"""FlexOlmo: OLMo 2 with experts that read hidden states as they are; their sum is normalised."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lm_offload.models import olmo2
from lm_offload.models.experts import add_expert, most_likely, scores_of
from lm_offload.models.olmo2 import (
    add_attended,
    add_normed,
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

KERNELS_ONLY = olmo2.KERNELS_ONLY | {"router", "expert"}

__all__ = [
    "KERNELS_ONLY",
    "add_attended",
    "add_expert",
    "add_sums",
    "embed",
    "embed_rows",
    "final_norm",
    "head",
    "qkv",
    "route",
]


def route(ctx: Context, weights: Weights, hidden: Tensor, normed: Tensor, choice: Choice) -> None:
    """normed[T, H] = hidden[T, H], which is what the experts read; choice = who is to read it."""
    ctx.kernels.clear(normed)
    ctx.kernels.add(hidden, normed)
    most_likely(ctx, scores_of(ctx, weights, normed), choice)


def add_sums(ctx: Context, weights: Weights, normed: Tensor, sums: Tensor, hidden: Tensor) -> None:
    """hidden[T, H] += post_norm(sums)."""
    add_normed(ctx, weights, sums, hidden)
