"""Qwen 2 and 2.5: Llama with biases on queries, keys and values, which are weights if present."""

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
