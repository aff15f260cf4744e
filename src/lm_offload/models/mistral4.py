"""Mistral 4: as DeepSeek V3, but experts are chosen by their probability."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lm_offload.models.choices import route_by_probability
from lm_offload.models.deepseek_v3 import (
    KERNELS_ONLY,
    add_attended,
    add_expert,
    embed,
    embed_rows,
    final_norm,
    head,
    mlp,
    qkv,
)

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.kernels.expert_choice import Choice
    from lm_offload.models.base import Context, Weights

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

    A group is as good as the sum of its two best experts.
    """
    route_by_probability(ctx, weights, hidden, normed, choice, summed=2)
