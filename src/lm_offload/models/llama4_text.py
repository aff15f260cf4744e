"""Llama 4: experts that read what the router scaled, and queries and keys normalised once rotated.

What of it is data: chunks of attention, layers without a rope, whose queries grow (arch/).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from lm_offload.kernels.expert_choice import ChoiceRule
from lm_offload.models.base import Context, Weights
from lm_offload.models.blocks import gate_and_up
from lm_offload.models.choices import add_shared
from lm_offload.models.experts import ExpertRows, router_scores
from lm_offload.models.llama import add_attended, embed, embed_rows, final_norm, head, mlp, qkv

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.kernels.expert_choice import Choice

KERNELS_ONLY = frozenset({"mlp", "router", "expert", "final_norm", "head"})

__all__ = [
    "KERNELS_ONLY",
    "add_attended",
    "add_expert",
    "after_rotation",
    "embed",
    "embed_rows",
    "final_norm",
    "head",
    "mlp",
    "qkv",
    "route",
]


def after_rotation(ctx: Context, weights: Weights, q: Tensor, k: Tensor) -> None:
    """Queries and keys normalised by head, where the model does that."""
    if not ctx.config.qk_norm_bare:
        return
    for heads in (q, k):
        rows = heads.flatten(0, 1)
        ctx.kernels.bare_norm(rows, ctx.config.norm_eps, rows)


def route(ctx: Context, weights: Weights, hidden: Tensor, normed: Tensor, choice: Choice) -> None:
    """normed[T, H] = what the experts read of hidden[T, H]; the shared one is added at once."""
    scores = router_scores(ctx, weights, hidden, normed)
    rule = ChoiceRule(ctx.config.experts_per_token, to_one=False, sigmoids=True)
    ctx.kernels.choose_experts(scores, rule, None, choice)
    add_shared(ctx, weights, normed, hidden)


def add_expert(
    ctx: Context, weights: Weights, chosen: ExpertRows, normed: Tensor, hidden: Tensor
) -> None:
    """hidden[rows] += down(activation(gate) * up) of scales * normed[rows]."""
    count, width = len(chosen.rows), normed.shape[1]
    x = torch.index_select(normed, 0, chosen.rows, out=ctx.workspace.take(count, width))
    inner = gate_and_up(ctx, weights, x.mul_(chosen.scales[:, None]))
    added = ctx.workspace.take(count, width)
    ctx.kernels.linear(inner, weights["down_proj"], added)
    hidden.index_add_(0, chosen.rows, added)
