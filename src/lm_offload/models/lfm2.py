"""LFM2: short convolutions, some layers attend; queries and keys normalised by head."""

from __future__ import annotations

from lm_offload.models import llama
from lm_offload.models.llama import (
    add_attended,
    add_inner,
    embed,
    embed_rows,
    final_norm,
    head,
    inner_rows,
    mlp,
)
from lm_offload.models.qwen3 import qkv
from lm_offload.models.short_convolution import recur

KERNELS_ONLY = llama.KERNELS_ONLY | {"recurrent"}

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
    "recur",
]
