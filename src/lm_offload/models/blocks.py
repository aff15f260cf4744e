"""Pieces that the model files are put together from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from lm_offload.models.base import Context, Weights

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from torch import Tensor

    from lm_offload.arch.config import ModelConfig
    from lm_offload.kernels.base import Kernels
    from lm_offload.micro_batch import MicroBatch
    from lm_offload.models.base import QKV, ModelFunctions
    from lm_offload.quant.kv_blocks import Blocks

QKV_ROLES = (("q_proj", "q_bias"), ("k_proj", "k_bias"), ("v_proj", "v_bias"))
GATE_AND_UP_ROLES = (("gate_proj", "gate_bias"), ("up_proj", "up_bias"))


def project(ctx: Context, weights: Weights, x: Tensor, role: str, bias_role: str) -> Tensor:
    """x[T, K] times a matrix of the unit, plus its bias if it has one, in a new buffer [T, N]."""
    weight = weights[role]
    out = ctx.workspace.take(x.shape[0], weight.shape[0])
    ctx.kernels.linear(x, weight, out, weights.get(bias_role))
    return out


def project_each(
    ctx: Context, weights: Weights, x: Tensor, roles: Items[tuple[str, str]]
) -> list[Tensor]:
    """x[T, K] times several matrices of the unit in one go, each with its bias if it has one."""
    products = []
    for role, bias_role in roles:
        weight = weights[role]
        out = ctx.workspace.take(x.shape[0], weight.shape[0])
        products.append((weight, out, weights.get(bias_role)))
    ctx.kernels.linear_each(x, products)
    return [out for _, out, _ in products]


def project_qkv(ctx: Context, weights: Weights, x: Tensor) -> QKV:
    """Queries [T, heads, head_dim], keys and values [T, kv_heads, head_dim] from three matrices."""
    q, k, v = project_each(ctx, weights, x, QKV_ROLES)
    return split_heads(ctx, q), split_heads(ctx, k), split_heads(ctx, v)


def split_heads(ctx: Context, x: Tensor) -> Tensor:
    """x[T, n * head_dim] seen as [T, n, head_dim]."""
    return x.view(x.shape[0], -1, ctx.config.head_dim)


def attention(
    model: ModelFunctions,
    ctx: Context,
    layer: int,
    weights: Weights,
    hidden: Tensor,
    batch: MicroBatch,
    keys: Blocks,
    values: Blocks,
) -> None:
    """hidden[T, H] += attention block; writes K and V of the rows into the layer's cache.

    keys, values [blocks, kv_heads, block_tokens, head_dim].
    """
    ctx = ctx.of_layer(layer)
    qkv = rotated_qkv(model, ctx, layer, weights, hidden, batch)
    out = ctx.workspace.take(*qkv[0].shape)
    sinks = weights.get("sinks")
    attend(ctx.config, ctx.kernels, layer, qkv, batch, keys, values, out, sinks)
    model.add_attended(ctx, weights, out.flatten(1), hidden)


def rotated_qkv(
    model: ModelFunctions,
    ctx: Context,
    layer: int,
    weights: Weights,
    hidden: Tensor,
    batch: MicroBatch,
) -> QKV:
    """All that attention needs of hidden[T, H]."""
    q, k, v = model.qkv(ctx, weights, hidden)
    rotate(ctx, layer, batch, q, k)
    place = ctx.config.layers[layer]
    after_rotation = getattr(model, "after_rotation", None)
    if after_rotation and batch.rotary and place.rope_index is not None:
        after_rotation(ctx, weights, q, k)
    if batch.rotary and place.tempered is not None:
        ctx.kernels.rotary(q, *batch.rotary[place.tempered])
    return q, k, v


def rotate(ctx: Context, layer: int, batch: MicroBatch, q: Tensor, k: Tensor) -> None:
    """Queries and keys [T, n, head_dim] by their positions, in place, where the layer does."""
    rope = ctx.config.layers[layer].rope_index
    if batch.rotary and rope is not None:
        cos, sin = batch.rotary[rope]
        for heads in (q, k):
            if ctx.config.paired_rope:
                _halve_pairs(ctx, heads, 2 * cos.shape[1])
            ctx.kernels.rotary(heads, cos, sin)


def _halve_pairs(ctx: Context, heads: Tensor, rotary_dim: int) -> None:
    """heads[T, n, head_dim] = channels 0 2 4 .. 1 3 5 .. of the first `rotary_dim`, in place.

    Where pairs of neighbours turn, halves do afterwards. Scores stay what they are: queries and
    keys are put in the same order, in which keys are kept.
    """
    rows, count, _ = heads.shape
    pairs = ctx.workspace.take(rows, count, rotary_dim)
    pairs.copy_(heads[..., :rotary_dim])
    halves = heads[..., :rotary_dim].view(rows, count, 2, rotary_dim // 2)
    halves.copy_(pairs.view(rows, count, rotary_dim // 2, 2).transpose(2, 3))


def attend(
    config: ModelConfig,
    kernels: Kernels,
    layer: int,
    qkv: QKV,
    batch: MicroBatch,
    keys: Blocks,
    values: Blocks,
    out: Tensor,
    sinks: Tensor | None = None,
) -> None:
    """Store keys and values, and attend into `out`, shaped as the queries."""
    q, k, v = qkv
    kernels.store_kv(k, v, keys, values, batch.slots)
    scale, cap = config.attention_scale, config.attention_softcap
    window = config.layers[layer].window
    if config.layers[layer].chunked:
        assert batch.chunked is not None
        batch, window = batch.chunked, None
    kernels.attention(q, keys, values, batch, scale, out, window, cap, sinks)


def gate_and_up(ctx: Context, weights: Weights, x: Tensor) -> Tensor:
    """activation(x gate) * (x up) [T, I] from two matrices."""
    inner = ctx.workspace.take(x.shape[0], weights["up_proj"].shape[0])
    gate_and_up_into(ctx, weights, x, inner)
    return inner


def gate_and_up_into(ctx: Context, weights: Weights, x: Tensor, out: Tensor) -> None:
    """out[T, I] = activation(x gate) * (x up) from two matrices."""
    up = ctx.workspace.take(*out.shape)
    products = [
        (weights[role], made, weights.get(bias_role))
        for (role, bias_role), made in zip(GATE_AND_UP_ROLES, (out, up), strict=True)
    ]
    ctx.kernels.linear_each(x, products)
    activate(ctx, out, up, out)


def plain_inner(ctx: Context, weights: Weights, x: Tensor) -> Tensor:
    """activation(x up) [T, I] of an MLP without gates: gelu, or squares of what is above zero."""
    inner = project(ctx, weights, x, "up_proj", "up_bias")
    if ctx.config.activation == "relu2":
        ctx.kernels.relu(inner)
        ctx.kernels.multiply(inner, inner, inner)
        return inner
    ones = torch.ones(inner.shape[1], device=inner.device).expand_as(inner)
    ctx.kernels.gelu_tanh_mul(inner, ones, inner)
    return inner


def activate(ctx: Context, gate: Tensor, up: Tensor, out: Tensor) -> None:
    """out[T, I] = activation(gate) * up; `out` may be the gate."""
    if ctx.config.activation == "silu":
        ctx.kernels.silu_mul(gate, up, out)
    else:
        ctx.kernels.gelu_tanh_mul(gate, up, out)


def softcap(logits: Tensor, cap: float | None) -> None:
    """logits = cap * tanh(logits / cap), in place; None leaves them as they are."""
    if cap is not None:
        logits.div_(cap).tanh_().mul_(cap)
