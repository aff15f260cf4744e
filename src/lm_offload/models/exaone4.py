"""EXAONE 4: OLMo 2 with queries and keys normalised by head."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lm_offload.models.base import Context, Weights
from lm_offload.models.blocks import project_qkv
from lm_offload.models.olmo2 import (
    KERNELS_ONLY,
    add_attended,
    add_inner,
    embed,
    embed_rows,
    final_norm,
    head,
    inner_rows,
    mlp,
)
from lm_offload.models.qwen3 import norm_by_head

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
    """Queries, keys and values of hidden, queries and keys normalised."""
    return norm_by_head(ctx, weights, project_qkv(ctx, weights, hidden))
