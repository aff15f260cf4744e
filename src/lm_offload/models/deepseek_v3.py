"""DeepSeek V3: latent attention, experts chosen from the best groups, one that every token uses."""

from __future__ import annotations

from lm_offload.models.choices import route
from lm_offload.models.experts import add_expert
from lm_offload.models.latent import add_attended, qkv
from lm_offload.models.llama import embed, embed_rows, final_norm, head, mlp

__all__ = [
    "KERNELS_ONLY",
    "add_attended",
    "add_expert",
    "embed",
    "embed_rows",
    "final_norm",
    "head",
    "mlp",
    "qkv",
    "route",
]

KERNELS_ONLY = frozenset({"mlp", "router", "expert", "final_norm", "head"})
