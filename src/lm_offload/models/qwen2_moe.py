"""Qwen 1.5 and 2 with experts: beside those that are chosen one that every token uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lm_offload.models import experts
from lm_offload.models.base import Context, Weights
from lm_offload.models.blocks import gate_and_up
from lm_offload.models.experts import add_expert
from lm_offload.models.mixtral import (
    add_attended,
    embed,
    embed_rows,
    final_norm,
    head,
    qkv,
)

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.kernels.expert_choice import Choice

KERNELS_ONLY = frozenset({"attention", "router", "expert", "final_norm", "head"})

__all__ = [
    "KERNELS_ONLY",
    "add_attended",
    "add_expert",
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
    add_scored(ctx, weights, normed, hidden)


def add_scored(ctx: Context, weights: Weights, normed: Tensor, hidden: Tensor) -> None:
    """hidden[T, H] += the shared expert on normed[T, H], as much of it as it is scored."""
    inner = gate_and_up(ctx, weights, normed)
    scores = ctx.workspace.take(len(normed), 1)
    ctx.kernels.weigh_rows(normed, weights["shared_gate"], scores, inner)
    ctx.kernels.linear_add(inner, weights["down_proj"], hidden)
