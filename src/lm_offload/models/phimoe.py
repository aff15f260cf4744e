"""Phi-3.5-MoE: Mixtral with layer norms and a router that weighs two experts one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lm_offload.models.experts import add_expert, scores_of
from lm_offload.models.layer_norms import final_norm, layer_norm, qkv
from lm_offload.models.llama import add_attended, embed, embed_rows, head

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.kernels.expert_choice import Choice
    from lm_offload.models.base import Context, Weights

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
    """normed[T, H] = what the experts read of hidden[T, H]; choice = who is to read it.

    SparseMixer (Liu et al. 2024): the best expert, then the best of the others.
    """
    layer_norm(ctx, hidden, weights["input_norm"], weights.get("input_norm_bias"), normed)
    scores = scores_of(ctx, weights, normed)
    ctx.kernels.choose_close(scores, ctx.config.choice_margin, choice)
