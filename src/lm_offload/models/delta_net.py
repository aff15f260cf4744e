"""Gated delta nets (Yang et al. 2024): layers that keep a matrix by head instead of all keys.

::

    hidden -> q k v, gate, rates, decays
    q k v  -> silu(convolution over the last few rows)      then q and k have length one
    S      -> decay S + k (rate (v - decay S^T k))^T        one matrix for each head
    out    -> o_proj(norm(S^T q) * silu(gate))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.kvcache.recurrent_states import State
    from lm_offload.micro_batch import MicroBatch
    from lm_offload.models.base import Context, Weights


class Asked(NamedTuple):
    """What a layer makes of T rows; G key heads, each with the heads of values that share it."""

    mixed: tuple[Tensor, ...]  # [T, groups, channels] each; together queries, keys and values
    gate: Tensor  # [T, G, values of its heads]
    rates: Tensor  # [T, G, its heads], before their sigmoids
    decays: Tensor  # [T, G, its heads], before what makes decays of them


def add_corrected(
    ctx: Context,
    weights: Weights,
    asked: Asked,
    hidden: Tensor,
    batch: MicroBatch,
    state: State,
) -> None:
    """hidden[T, H] += a gated delta net; moves the states of the rows' sequences on."""
    rows = len(hidden)
    mixed = _convolved(ctx, weights["convolution"], asked.mixed, batch, state.inputs)
    _, heads, _, value_dim = state.matrices.shape
    out = ctx.workspace.take(rows, heads * value_dim)
    factors = weights["decay_log"], weights["decay_bias"]
    ctx.kernels.gated_delta(mixed, asked.rates, asked.decays, *factors, state.matrices, batch, out)
    by_head, by_group = out.view(-1, value_dim), out.view(-1, asked.gate.shape[-1])
    ctx.kernels.rms_norm(by_head, weights["gated_norm"], ctx.config.norm_eps, by_head)
    ctx.kernels.silu_mul(asked.gate.flatten(0, 1), by_group, by_group)
    ctx.kernels.linear_add(out, weights["o_proj"], hidden)


def _convolved(
    ctx: Context, weight: Tensor, parts: tuple[Tensor, ...], batch: MicroBatch, inputs: Tensor
) -> Tensor:
    """[T, channels] of all parts, one behind the other."""
    mixed = ctx.workspace.take(len(parts[0]), inputs.shape[-1])
    first = 0
    for part in parts:
        last = first + part.shape[1] * part.shape[2]
        own = inputs[..., first:last], batch, mixed[:, first:last]
        ctx.kernels.causal_convolution(part, weight[first:last], *own)
        first = last
    return mixed
