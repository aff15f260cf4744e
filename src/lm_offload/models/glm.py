"""GLM-4 of 2024: Llama with gate and up in one matrix, neighbouring channels rotated."""

from lm_offload.arch.weight_spec import MLP_KINDS
from lm_offload.models.llama import (
    add_attended,
    add_inner,
    embed,
    embed_rows,
    final_norm,
    head,
    qkv,
)
from lm_offload.models.phi3 import inner_rows, mlp

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
