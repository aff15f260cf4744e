"""MiniMax-M2: queries and keys normalised over all heads, experts chosen by sigmoids and a bias."""

from __future__ import annotations

from lm_offload.models.choices import route
from lm_offload.models.experts import add_expert
from lm_offload.models.olmoe import (
    KERNELS_ONLY,
    add_attended,
    embed,
    embed_rows,
    final_norm,
    head,
    qkv,
)

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
