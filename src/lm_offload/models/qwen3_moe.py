"""Qwen 3 with experts in every layer: queries and keys normalised by head."""

from __future__ import annotations

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
from lm_offload.models.qwen3 import qkv

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
