"""GLM-4 of 2024: Llama with gate and up in one matrix, neighbouring channels rotated."""

from lm_offload.models.llama import add_attended, embed, embed_rows, final_norm, head, qkv
from lm_offload.models.phi3 import mlp

__all__ = [
    "KERNELS_ONLY",
    "add_attended",
    "embed",
    "embed_rows",
    "final_norm",
    "head",
    "mlp",
    "qkv",
]

KERNELS_ONLY = frozenset({"mlp"})
