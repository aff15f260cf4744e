"""Apertus: queries and keys normalised by head, an activation whose slopes are learned."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from lm_offload.models import llama
from lm_offload.models.blocks import project
from lm_offload.models.llama import add_attended, embed, embed_rows, final_norm, head, input_norm
from lm_offload.models.qwen3 import qkv

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.models.base import Context, Weights

KERNELS_ONLY = llama.KERNELS_ONLY - {"mlp"}

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
    """hidden[T, H] += down(xielu(up)) of norm(hidden)."""
    inner = project(ctx, weights, input_norm(ctx, weights, hidden), "up_proj", "")
    ctx.kernels.linear_add(_xielu(weights, inner), weights["down_proj"], hidden)


def _xielu(weights: Weights, x: Tensor) -> Tensor:
    """xIELU (Huang and Schlag 2024): a square above zero, an exponential below, in place."""
    beta, eps = weights["beta"].float(), weights["eps"].float()
    above = functional.softplus(weights["alpha_p"].float())
    below = beta + functional.softplus(weights["alpha_n"].float())
    negative = (torch.expm1(torch.minimum(x, eps)) - x) * below + beta * x
    return x.copy_(torch.where(x > 0, above * x * x + beta * x, negative))
