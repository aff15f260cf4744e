"""GLM-4.5 and 4.6: experts but in the first layers, and one that every token uses.

Queries and keys may be normalised by head.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lm_offload.models import llama
from lm_offload.models.choices import route
from lm_offload.models.experts import add_expert
from lm_offload.models.llama import (
    add_attended,
    embed,
    embed_rows,
    final_norm,
    head,
    mlp,
)
from lm_offload.models.qwen3 import norm_by_head

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.models.base import QKV, Context, Weights

KERNELS_ONLY = llama.KERNELS_ONLY | {"router", "expert"}

__all__ = [
    "KERNELS_ONLY",
    "add_attended",
    "add_expert",
    "embed",
    "embed_rows",
    "final_norm",
    "head",
    "mlp",
    "qkv",
    "route",
]


def qkv(ctx: Context, weights: Weights, hidden: Tensor) -> QKV:
    """Queries, keys and values of norm(hidden), queries and keys normalised where they are."""
    made = llama.qkv(ctx, weights, hidden)
    return norm_by_head(ctx, weights, made) if ctx.config.qk_norm else made
