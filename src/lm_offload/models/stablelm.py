"""StableLM: Llama with layer norms, rotated in part of each head."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lm_offload.models.base import Context, Weights
from lm_offload.models.blocks import gate_and_up, gate_and_up_into
from lm_offload.models.layer_norms import final_norm, input_norm, qkv
from lm_offload.models.llama import add_attended, add_inner, embed, embed_rows, head

if TYPE_CHECKING:
    from torch import Tensor

KERNELS_ONLY = frozenset({"attention"})

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


def mlp(ctx: Context, layer: int, weights: Weights, hidden: Tensor) -> None:
    """hidden[T, H] += down(silu(gate) * up) of norm(hidden)."""
    inner = gate_and_up(ctx, weights, input_norm(ctx, weights, hidden))
    add_inner(ctx, weights, inner, hidden)


def inner_rows(ctx: Context, weights: Weights, hidden: Tensor, out: Tensor) -> None:
    """out[T, I] = silu(gate) * up of norm(hidden)."""
    gate_and_up_into(ctx, weights, input_norm(ctx, weights, hidden), out)
