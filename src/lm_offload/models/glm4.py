"""GLM-4 of 2025: GLM with norms before and after both blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lm_offload.models import llama
from lm_offload.models.base import Context, Weights
from lm_offload.models.llama import embed, embed_rows, final_norm, head, input_norm, qkv
from lm_offload.models.olmo2 import add_attended, add_inner, add_normed
from lm_offload.models.phi3 import fused_gate_and_up, inner_rows

if TYPE_CHECKING:
    from torch import Tensor

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

KERNELS_ONLY = llama.KERNELS_ONLY - {"attention"}  # where pairs of channels turn


def mlp(ctx: Context, layer: int, weights: Weights, hidden: Tensor) -> None:
    """hidden[T, H] += post_norm(down(silu(gate) * up)) of norm(hidden)."""
    normed = input_norm(ctx, weights, hidden)
    inner = fused_gate_and_up(ctx, weights, normed)
    ctx.kernels.linear(inner, weights["down_proj"], normed)
    add_normed(ctx, weights, normed, hidden)
