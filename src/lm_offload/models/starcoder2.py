"""StarCoder 2: layer norms, biases, an MLP of two matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lm_offload.models.base import Context, Weights
from lm_offload.models.blocks import plain_inner
from lm_offload.models.layer_norms import final_norm, input_norm, qkv
from lm_offload.models.llama import add_attended, embed, embed_rows, head

if TYPE_CHECKING:
    from torch import Tensor

KERNELS_ONLY = frozenset({"attention"})

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


def mlp(ctx: Context, layer: int, weights: Weights, hidden: Tensor) -> None:
    """hidden[T, H] += down(gelu(up)) of norm(hidden)."""
    inner = plain_inner(ctx, weights, input_norm(ctx, weights, hidden))
    ctx.kernels.linear_add(inner, weights["down_proj"], hidden, weights.get("down_bias"))
