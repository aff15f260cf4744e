"""Granite with experts in every layer, scaled as it is."""

from __future__ import annotations

from lm_offload.models.experts import add_expert, route
from lm_offload.models.granite import add_attended, embed, embed_rows, final_norm, head, qkv

KERNELS_ONLY = frozenset({"attention", "router", "expert", "final_norm"})

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
