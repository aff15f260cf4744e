"""OLMoE: experts in every layer; queries and keys normalised, all heads together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lm_offload.models.base import Context, Weights
from lm_offload.models.blocks import project_qkv
from lm_offload.models.llama import input_norm
from lm_offload.models.mixtral import (
    KERNELS_ONLY,
    add_attended,
    add_expert,
    embed,
    embed_rows,
    final_norm,
    head,
    route,
)
from lm_offload.models.olmo2 import norm_whole

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.models.base import QKV

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


def qkv(ctx: Context, weights: Weights, hidden: Tensor) -> QKV:
    """Queries, keys and values of norm(hidden), queries and keys normalised over all heads."""
    made = project_qkv(ctx, weights, input_norm(ctx, weights, hidden))
    return norm_whole(ctx, weights, made)
