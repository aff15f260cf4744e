"""DeepSeek V2: as V3, but experts are chosen by their probability."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lm_offload.models.choices import add_shared, chosen, in_best_groups
from lm_offload.models.deepseek_v3 import (
    KERNELS_ONLY,
    add_attended,
    add_expert,
    embed,
    embed_rows,
    final_norm,
    head,
    mlp,
    qkv,
)
from lm_offload.models.experts import router_scores

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.models.base import Context, Weights
    from lm_offload.models.experts import Choice

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
    "route",
]


def route(ctx: Context, weights: Weights, hidden: Tensor, normed: Tensor) -> Choice:
    """normed[T, H] = what the experts read of hidden[T, H]; the shared one is added at once.

    A group is as good as its best expert.
    """
    scores = router_scores(ctx, weights, hidden, normed).softmax(-1)
    ranks = scores
    if ctx.config.expert_groups > 1:
        copied = ctx.workspace.take(*scores.shape).copy_(scores)
        ranks = in_best_groups(ctx, copied, summed=1)
    choice = chosen(ctx, scores, ranks)
    add_shared(ctx, weights, normed, hidden)
    return choice
