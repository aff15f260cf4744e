"""Gemma 3, text: Gemma 2 with queries and keys normalised by head and two ropes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lm_offload.models.base import Context, Weights
from lm_offload.models.blocks import project_qkv
from lm_offload.models.gemma2 import (
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
    q, k, v = project_qkv(ctx, weights, input_norm(ctx, weights, hidden))
    for heads, role in ((q, "q_norm"), (k, "k_norm")):
        rows = heads.flatten(0, 1)
        ctx.kernels.rms_norm_plus_one(rows, weights[role], ctx.config.norm_eps, rows)
    return q, k, v
