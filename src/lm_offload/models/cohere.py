"""Command R: attention and MLP side by side, layer norms, scaled logits.

Both read the same normalised hidden states, so they are one unit, whose MLP is added where
attention is: hidden states are what they were until then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from lm_offload.models.base import Context, Weights
from lm_offload.models.blocks import gate_and_up, project_qkv
from lm_offload.models.granite import head
from lm_offload.models.layer_norms import final_norm, input_norm, layer_norm
from lm_offload.models.llama import embed, embed_rows, mlp

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
    """Queries, keys and values of norm(hidden), queries and keys normalised where they are."""
    made = project_qkv(ctx, weights, input_norm(ctx, weights, hidden))
    if ctx.config.qk_norm:
        for heads, role in zip(made, ("q_norm", "k_norm"), strict=False):
            _norm_heads(ctx, heads, weights[role])
    return made


def add_attended(ctx: Context, weights: Weights, attended: Tensor, hidden: Tensor) -> None:
    """hidden[T, H] += o_proj(attended) + down(silu(gate) * up) of norm(hidden)."""
    inner = gate_and_up(ctx, weights, input_norm(ctx, weights, hidden))
    ctx.kernels.linear_add(attended, weights["o_proj"], hidden, weights.get("o_bias"))
    ctx.kernels.linear_add(inner, weights["down_proj"], hidden)


def _norm_heads(ctx: Context, heads: Tensor, scales: Tensor) -> None:
    """heads[T, n, head_dim] normalised one by one, then multiplied with scales[n, head_dim]."""
    rows = heads.flatten(0, 1)
    layer_norm(ctx, rows, torch.ones(rows.shape[1], device=rows.device), None, rows)
    heads.mul_(scales)
