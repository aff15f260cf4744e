"""Qwen3.5 with experts in every layer, one of which every token uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lm_offload.models.experts import add_expert, most_likely, scores_of
from lm_offload.models.qwen2_moe import add_scored
from lm_offload.models.qwen3_5_text import (
    add_attended,
    embed,
    embed_rows,
    final_norm,
    head,
    recur,
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
    "recur",
    "route",
]

KERNELS_ONLY = frozenset({"attention", "recurrent", "router", "expert", "final_norm", "head"})


def route(ctx: Context, weights: Weights, hidden: Tensor, normed: Tensor, choice: Choice) -> None:
    """normed[T, H] = what the experts read of hidden[T, H]; the shared one is added at once."""
    ctx.kernels.rms_norm_plus_one(hidden, weights["input_norm"], ctx.config.norm_eps, normed)
    most_likely(ctx, scores_of(ctx, weights, normed), choice)
    add_scored(ctx, weights, normed, hidden)
