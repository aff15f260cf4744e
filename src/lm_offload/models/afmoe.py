"""AFMoE (Trinity of Arcee): gated attention, norms around both blocks, also of what experts add."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lm_offload.models import llama
from lm_offload.models.blocks import gate_and_up
from lm_offload.models.choices import route_by_sigmoids
from lm_offload.models.experts import add_expert
from lm_offload.models.granite import embed
from lm_offload.models.llama import embed_rows, final_norm, head, input_norm
from lm_offload.models.olmo2 import add_attended, add_normed
from lm_offload.models.qwen3 import qkv

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.kernels.expert_choice import Choice
    from lm_offload.models.base import Context, Weights

KERNELS_ONLY = llama.KERNELS_ONLY | {"router", "expert"}

__all__ = [
    "KERNELS_ONLY",
    "add_attended",
    "add_expert",
    "add_sums",
    "embed",
    "embed_rows",
    "final_norm",
    "head",
    "mlp",
    "qkv",
    "route",
]


def mlp(ctx: Context, layer: int, weights: Weights, hidden: Tensor) -> None:
    """hidden[T, H] += post_norm(down(silu(gate) * up)) of norm(hidden)."""
    normed = input_norm(ctx, weights, hidden)
    inner = gate_and_up(ctx, weights, normed)
    ctx.kernels.linear(inner, weights["down_proj"], normed)
    add_normed(ctx, weights, normed, hidden)


def route(ctx: Context, weights: Weights, hidden: Tensor, normed: Tensor, choice: Choice) -> None:
    """normed[T, H] = what the experts read of hidden[T, H]; choice = who is to read it."""
    route_by_sigmoids(ctx, weights, hidden, normed, choice)


def add_sums(ctx: Context, weights: Weights, normed: Tensor, sums: Tensor, hidden: Tensor) -> None:
    """hidden[T, H] += post_norm(sums + what the expert that every row uses makes of normed)."""
    inner = gate_and_up(ctx, weights, normed)
    ctx.kernels.linear_add(inner, weights["down_proj"], sums)
    add_normed(ctx, weights, sums, hidden)
