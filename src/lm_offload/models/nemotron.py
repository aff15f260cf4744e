"""Nemotron: layer norms that store scales less one, an MLP of two matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lm_offload.models.base import Context, Weights
from lm_offload.models.blocks import plain_inner, project_qkv
from lm_offload.models.layer_norms import layer_norm
from lm_offload.models.llama import add_attended, embed, embed_rows, head

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.models.base import QKV

KERNELS_ONLY: frozenset[str] = frozenset()

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


def qkv(ctx: Context, weights: Weights, hidden: Tensor) -> QKV:
    """Queries, keys and values of norm(hidden)."""
    return project_qkv(ctx, weights, _input_norm(ctx, weights, hidden))


def mlp(ctx: Context, layer: int, weights: Weights, hidden: Tensor) -> None:
    """hidden[T, H] += down(relu(up) ** 2) of norm(hidden)."""
    inner = plain_inner(ctx, weights, _input_norm(ctx, weights, hidden))
    ctx.kernels.linear_add(inner, weights["down_proj"], hidden, weights.get("down_bias"))


def final_norm(ctx: Context, weights: Weights, hidden: Tensor, out: Tensor) -> None:
    """out[R, H] = norm(hidden)."""
    layer_norm(ctx, hidden, weights["norm"].float() + 1, weights["norm_bias"], out)


def _input_norm(ctx: Context, weights: Weights, hidden: Tensor) -> Tensor:
    """The normalised hidden states [T, H] in a new buffer."""
    normed = ctx.workspace.take(*hidden.shape)
    scales = weights["input_norm"].float() + 1
    layer_norm(ctx, hidden, scales, weights["input_norm_bias"], normed)
    return normed
