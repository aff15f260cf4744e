"""gpt-oss: attention sinks, biases everywhere, and experts whose gates are cut off and steeper."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lm_offload.models.base import Context, Weights
from lm_offload.models.blocks import GATE_AND_UP_ROLES, project_each
from lm_offload.models.experts import ExpertRows, add_gated, route
from lm_offload.models.llama import (
    add_attended,
    embed,
    embed_rows,
    final_norm,
    head,
    qkv,
)

if TYPE_CHECKING:
    from torch import Tensor

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


def add_expert(
    ctx: Context, weights: Weights, chosen: ExpertRows, normed: Tensor, hidden: Tensor
) -> None:
    """hidden[rows] += scales * down(gate * sigmoid(slope gate) * (up + 1)) of normed[rows]."""
    add_gated(ctx, weights, chosen, normed, hidden, _cut_off)


def _cut_off(ctx: Context, weights: Weights, x: Tensor) -> Tensor:
    """What is multiplied with down_proj [m, I], of gates up to the limit and ups within it.

    gate * sigmoid(slope gate) is silu(slope gate) / slope.
    """
    limit, slope = ctx.config.gate_limit, ctx.config.gate_slope
    gate, up = project_each(ctx, weights, x, GATE_AND_UP_ROLES)
    gate.clamp_(max=limit).mul_(slope)
    up.clamp_(-limit, limit).add_(1.0).div_(slope)
    ctx.kernels.silu_mul(gate, up, gate)
    return gate
