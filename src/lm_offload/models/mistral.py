"""Mistral: Llama with a sliding window, which lies in the config of its layers."""

from lm_offload.models.llama import attention, embed, embed_rows, final_norm, head, mlp

__all__ = ["attention", "embed", "embed_rows", "final_norm", "head", "mlp"]
