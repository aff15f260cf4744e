"""AFM of Arcee: Llama with an MLP of two matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lm_offload.models.base import Context, Weights
from lm_offload.models.blocks import plain_inner
from lm_offload.models.llama import (
    KERNELS_ONLY,
    add_attended,
    embed,
    embed_rows,
    final_norm,
    head,
    input_norm,
    qkv,
)

if TYPE_CHECKING:
    from torch import Tensor

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
    """hidden[T, H] += down(activation(up)) of norm(hidden)."""
    inner = plain_inner(ctx, weights, input_norm(ctx, weights, hidden))
    ctx.kernels.linear_add(inner, weights["down_proj"], hidden, weights.get("down_bias"))
