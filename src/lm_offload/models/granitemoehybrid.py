"""Granite 4: state space layers, few of which attend; experts and one that every token uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lm_offload.models import experts
from lm_offload.models.choices import add_shared
from lm_offload.models.experts import add_expert
from lm_offload.models.granite import add_attended, embed, embed_rows, final_norm, head, mlp, qkv
from lm_offload.models.state_space import recur

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.kernels.expert_choice import Choice
    from lm_offload.models.base import Context, Weights

__all__ = [
    "KERNELS_ONLY",
    "add_attended",
    "add_expert",
    "embed",
    "embed_rows",
    "final_norm",
    "head",
    "mlp",
    "qkv",
    "recur",
    "route",
]

KERNELS_ONLY = frozenset({"attention", "recurrent", "mlp", "router", "expert", "final_norm"})


def route(ctx: Context, weights: Weights, hidden: Tensor, normed: Tensor, choice: Choice) -> None:
    """normed[T, H] = what the experts read of hidden[T, H]; the shared one is added at once."""
    experts.route(ctx, weights, hidden, normed, choice)
    add_shared(ctx, weights, normed, hidden)
