"""Mixtral: Mistral with experts; the router's scales of those that a token uses sum to one."""

from __future__ import annotations

from lm_offload.models.experts import add_expert, route
from lm_offload.models.llama import (
    add_attended,
    embed,
    embed_rows,
    final_norm,
    head,
    qkv,
)

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
