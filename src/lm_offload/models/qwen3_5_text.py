"""Qwen3.5, dense: gated delta nets, every fourth layer attends and its output passes a gate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lm_offload.arch.weight_spec import MLP_KINDS
from lm_offload.models.blocks import gate_and_up, gate_and_up_into, project_each
from lm_offload.models.delta_net import Asked, add_corrected
from lm_offload.models.gemma2 import final_norm, input_norm
from lm_offload.models.llama import add_attended, add_inner, embed, embed_rows, head

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.kvcache.recurrent_states import State
    from lm_offload.micro_batch import MicroBatch
    from lm_offload.models.base import Context, Weights

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
    "recur",
]

KERNELS_ONLY = frozenset({"attention", "recurrent", *MLP_KINDS})

_ROLES = (("qkv_proj", ""), ("z_proj", ""), ("b_proj", ""), ("a_proj", ""))


def recur(ctx: Context, weights: Weights, hidden: Tensor, batch: MicroBatch, state: State) -> None:
    """hidden[T, H] += a gated delta net; moves the states of the rows' sequences on."""
    add_corrected(ctx, weights, _asked(ctx, weights, hidden), hidden, batch, state)


def _asked(ctx: Context, weights: Weights, hidden: Tensor) -> Asked:
    """Of norm(hidden): each projection is a matrix of its own."""
    shape = ctx.config.recurrent
    assert shape is not None
    normed, groups = input_norm(ctx, weights, hidden), shape.key_heads
    mixed, *others = project_each(ctx, weights, normed, _ROLES)
    gate, rates, decays = (each.view(len(hidden), groups, -1) for each in others)
    return Asked((mixed[:, None],), gate, rates, decays)


def mlp(ctx: Context, layer: int, weights: Weights, hidden: Tensor) -> None:
    """hidden[T, H] += down(silu(gate) * up) of norm(hidden)."""
    inner = gate_and_up(ctx, weights, input_norm(ctx, weights, hidden))
    add_inner(ctx, weights, inner, hidden)


def inner_rows(ctx: Context, weights: Weights, hidden: Tensor, out: Tensor) -> None:
    """out[T, I] = silu(gate) * up of norm(hidden)."""
    gate_and_up_into(ctx, weights, input_norm(ctx, weights, hidden), out)
