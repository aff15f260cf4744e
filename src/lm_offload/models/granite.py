"""Granite: Llama with scaled embeddings and logits; what blocks add is scaled in the config."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lm_offload.models import llama
from lm_offload.models.base import Context, Weights
from lm_offload.models.llama import (
    add_attended,
    add_inner,
    embed_rows,
    final_norm,
    inner_rows,
    mlp,
    qkv,
)

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

KERNELS_ONLY = llama.KERNELS_ONLY - {"head"}


def embed(ctx: Context, rows: Weights, hidden: Tensor, weights: Weights) -> None:
    """hidden[T, H] = rows * scale."""
    hidden.copy_(rows["tokens"]).mul_(ctx.config.embed_scale)


def head(ctx: Context, weights: Weights, normed: Tensor, logits: Tensor) -> None:
    """logits[R, rows] of one part of the vocabulary, divided."""
    ctx.kernels.linear(normed, weights["head"], logits)
    logits.div_(ctx.config.logits_divisor)
