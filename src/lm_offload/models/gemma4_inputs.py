"""What each layer of the small Gemma 4 models reads of the tokens themselves.

A row of a second table, as wide as all layers together, and as much again that is made of the
embedding; each layer adds what it makes of its own part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from lm_offload.models.base import Context, Weights
from lm_offload.models.blocks import activate, project

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.arch.config import ModelConfig


def embed_rows(config: ModelConfig, token_ids: Tensor, positions: Tensor) -> dict[str, Tensor]:
    """One row of each table for each token."""
    roles = ("tokens", "layer_tokens") if config.layer_input_size else ("tokens",)
    return dict.fromkeys(roles, token_ids)


def layer_inputs(
    ctx: Context, rows: Weights, hidden: Tensor, weights: Weights, out: Tensor
) -> None:
    """out[T, layers * width] = (norm(proj(hidden)) + rows) / sqrt(2), hidden being embeddings."""
    size, table = ctx.config.layer_input_size, rows["layer_tokens"]
    ctx.kernels.linear(hidden, weights["inputs_proj"], out)
    by_layer = out.mul_(hidden.shape[1] ** -0.5).view(-1, size)
    ctx.kernels.rms_norm(by_layer, weights["inputs_norm"], ctx.config.norm_eps, by_layer)
    scale = torch.tensor(size**0.5, dtype=table.dtype).item()  # as in training
    out.add_(table, alpha=scale).mul_(2**-0.5)


def add_layer_input(ctx: Context, weights: Weights, inputs: Tensor, hidden: Tensor) -> None:
    """hidden[T, H] = (hidden + norm(proj(gelu(gate(hidden)) * inputs[T, width]))) * scale."""
    gate = project(ctx, weights, hidden, "input_gate", "")
    activate(ctx, gate, inputs, gate)
    added = project(ctx, weights, gate, "input_proj", "")
    ctx.kernels.rms_norm(added, weights["added_norm"], ctx.config.norm_eps, added)
    ctx.kernels.add(added, hidden)
    ctx.kernels.scale(hidden, weights["layer_scale"])
