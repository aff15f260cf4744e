"""Hunyuan, dense: queries and keys normalised by head once they are rotated."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lm_offload.models.llama import (
    KERNELS_ONLY,
    add_attended,
    add_inner,
    embed,
    embed_rows,
    final_norm,
    head,
    inner_rows,
    mlp,
    qkv,
)
from lm_offload.models.qwen3 import norm_by_head

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.models.base import Context, Weights

__all__ = [
    "KERNELS_ONLY",
    "add_attended",
    "add_inner",
    "after_rotation",
    "embed",
    "embed_rows",
    "final_norm",
    "head",
    "inner_rows",
    "mlp",
    "qkv",
]


def after_rotation(ctx: Context, weights: Weights, q: Tensor, k: Tensor) -> None:
    """Queries and keys normalised by head, in place."""
    norm_by_head(ctx, weights, (q, k, k))
