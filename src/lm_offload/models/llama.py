"""Llama: RMS norm, grouped-query attention with rotary positions, gated MLP."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lm_offload.arch.weight_spec import MLP_KINDS
from lm_offload.models.base import Context, Weights
from lm_offload.models.blocks import gate_and_up, gate_and_up_into, project_qkv, softcap

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.arch.config import ModelConfig
    from lm_offload.models.base import QKV

KERNELS_ONLY = frozenset({"attention", *MLP_KINDS, "final_norm", "head"})


def embed_rows(config: ModelConfig, token_ids: Tensor, positions: Tensor) -> dict[str, Tensor]:
    """One row of the token table for each token."""
    return {"tokens": token_ids}


def embed(ctx: Context, rows: Weights, hidden: Tensor, weights: Weights) -> None:
    """hidden[T, H] = the rows as they are."""
    hidden.copy_(rows["tokens"])


def qkv(ctx: Context, weights: Weights, hidden: Tensor) -> QKV:
    """Queries, keys and values of norm(hidden)."""
    return project_qkv(ctx, weights, input_norm(ctx, weights, hidden))


def add_attended(ctx: Context, weights: Weights, attended: Tensor, hidden: Tensor) -> None:
    """hidden[T, H] += o_proj(attended)."""
    ctx.kernels.linear_add(attended, weights["o_proj"], hidden, weights.get("o_bias"))


def mlp(ctx: Context, layer: int, weights: Weights, hidden: Tensor) -> None:
    """hidden[T, H] += down(silu(gate) * up) of norm(hidden)."""
    inner = gate_and_up(ctx, weights, input_norm(ctx, weights, hidden))
    add_inner(ctx, weights, inner, hidden)


def inner_rows(ctx: Context, weights: Weights, hidden: Tensor, out: Tensor) -> None:
    """out[T, I] = silu(gate) * up of norm(hidden)."""
    gate_and_up_into(ctx, weights, input_norm(ctx, weights, hidden), out)


def add_inner(ctx: Context, weights: Weights, inner: Tensor, hidden: Tensor) -> None:
    """hidden[T, H] += down(inner)."""
    ctx.kernels.linear_add(inner, weights["down_proj"], hidden, weights.get("down_bias"))


def final_norm(ctx: Context, weights: Weights, hidden: Tensor, out: Tensor) -> None:
    """out[R, H] = norm(hidden)."""
    ctx.kernels.rms_norm(hidden, weights["norm"], ctx.config.norm_eps, out)


def head(ctx: Context, weights: Weights, normed: Tensor, logits: Tensor) -> None:
    """logits[R, rows] of one part of the vocabulary."""
    ctx.kernels.linear(normed, weights["head"], logits, weights.get("head_bias"))
    softcap(logits, ctx.config.final_softcap)


def input_norm(ctx: Context, weights: Weights, hidden: Tensor) -> Tensor:
    """The normalised hidden states [T, H] in a new buffer."""
    normed = ctx.workspace.take(*hidden.shape)
    ctx.kernels.rms_norm(hidden, weights["input_norm"], ctx.config.norm_eps, normed)
    return normed
