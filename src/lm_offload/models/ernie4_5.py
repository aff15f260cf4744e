"""ERNIE 4.5, dense: Llama with neighbouring channels rotated."""

from lm_offload.models.llama import add_attended, embed, embed_rows, final_norm, head, mlp, qkv

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
