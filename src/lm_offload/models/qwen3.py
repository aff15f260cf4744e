"""Qwen 3, dense: Llama with queries and keys normalised by head."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lm_offload.models.base import Context, Weights
from lm_offload.models.blocks import project_qkv
from lm_offload.models.llama import (
    KERNELS_ONLY,
    add_attended,
    add_inner,
    embed,
    embed_rows,
    final_norm,
    head,
    inner_rows,
    input_norm,
    mlp,
)

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.models.base import QKV

__all__ = [
    "KERNELS_ONLY",
    "add_attended",
    "add_inner",
    "embed",
    "embed_rows",
    "final_norm",
    "head",
    "inner_rows",
    "mlp",
    "qkv",
]


def qkv(ctx: Context, weights: Weights, hidden: Tensor) -> QKV:
    """Queries, keys and values of norm(hidden), queries and keys normalised."""
    made = project_qkv(ctx, weights, input_norm(ctx, weights, hidden))
    return norm_by_head(ctx, weights, made)


def norm_by_head(ctx: Context, weights: Weights, made: QKV) -> QKV:
    """The same with queries and keys normalised in place, each head for itself."""
    for heads, role in zip(made, ("q_norm", "k_norm"), strict=False):
        rows = heads.flatten(0, 1)
        ctx.kernels.rms_norm(rows, weights[role], ctx.config.norm_eps, rows)
    return made
