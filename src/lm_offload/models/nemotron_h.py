"""Nemotron-H and Nemotron 3: a layer is a state space, attention, an MLP or experts, never two."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lm_offload.models import llama
from lm_offload.models.blocks import plain_inner, project
from lm_offload.models.choices import route_by_sigmoids
from lm_offload.models.experts import ExpertRows, add_gated
from lm_offload.models.llama import (
    add_attended,
    embed,
    embed_rows,
    final_norm,
    head,
    input_norm,
    qkv,
)
from lm_offload.models.state_space import recur

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.kernels.expert_choice import Choice
    from lm_offload.models.base import Context, Weights

__all__ = [
    "KERNELS_ONLY",
    "add_attended",
    "add_expert",
    "add_sums",
    "embed",
    "embed_rows",
    "final_norm",
    "head",
    "mlp",
    "qkv",
    "recur",
    "route",
]

KERNELS_ONLY = llama.KERNELS_ONLY | {"recurrent", "router", "expert"}


def mlp(ctx: Context, layer: int, weights: Weights, hidden: Tensor) -> None:
    """hidden[T, H] += down(relu(up) ** 2) of norm(hidden)."""
    _add_plain(ctx, weights, input_norm(ctx, weights, hidden), hidden)


def route(ctx: Context, weights: Weights, hidden: Tensor, normed: Tensor, choice: Choice) -> None:
    """normed[T, H] = what the experts read of hidden[T, H]; the shared one is added at once."""
    route_by_sigmoids(ctx, weights, hidden, normed, choice)
    _add_plain(ctx, weights, normed, hidden)
    if narrow := ctx.config.narrowed_size:
        made = project(ctx, weights, normed, "narrow_proj", "")
        ctx.kernels.clear(normed[:, :narrow])
        ctx.kernels.add(made, normed[:, :narrow])


def add_expert(
    ctx: Context, weights: Weights, chosen: ExpertRows, normed: Tensor, hidden: Tensor
) -> None:
    """hidden[rows] += scales * down(relu(up) ** 2) of normed[rows], of their first columns."""
    wide = ctx.config.narrowed_size or ctx.config.hidden_size
    add_gated(ctx, weights, chosen, normed[:, :wide], hidden[:, :wide], plain_inner)


def add_sums(ctx: Context, weights: Weights, normed: Tensor, sums: Tensor, hidden: Tensor) -> None:
    """hidden[T, H] += what is made of the first columns of sums[T, H] of all experts."""
    narrow = sums[:, : ctx.config.narrowed_size]
    ctx.kernels.linear_add(narrow, weights["widen_proj"], hidden)


def _add_plain(ctx: Context, weights: Weights, normed: Tensor, hidden: Tensor) -> None:
    inner = plain_inner(ctx, weights, normed)
    ctx.kernels.linear_add(inner, weights["down_proj"], hidden)
