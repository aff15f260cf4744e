"""ERNIE 4.5, dense: Llama with neighbouring channels rotated."""

from lm_offload.arch.weight_spec import MLP_KINDS
from lm_offload.models.llama import (
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

KERNELS_ONLY = frozenset(MLP_KINDS)
