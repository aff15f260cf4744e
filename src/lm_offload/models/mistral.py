"""Mistral: Llama with a sliding window, which lies in the config of its layers."""

from lm_offload.models.llama import (
    KERNELS_ONLY,
    attention,
    embed,
    embed_rows,
    final_norm,
    head,
    mlp,
)

__all__ = ["KERNELS_ONLY", "attention", "embed", "embed_rows", "final_norm", "head", "mlp"]
