"""What native code is told of a recurrent layer's operations, after checking their tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from lm_offload.kernels import _native
from lm_offload.kernels.native_arguments import heads, indices, refuse, rows, vector

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.kernels.state_kernels import ScanFactors
    from lm_offload.micro_batch import MicroBatch


def convolution(
    x: Tensor,
    weight: Tensor,
    state: Tensor,
    batch: MicroBatch,
    out: Tensor,
    bias: Tensor | None = None,
) -> _native.Convolution:
    """Of x[T, n, C / n] with weight[C, 1, taps] and state[slots, taps - 1, C] into out[T, C]."""
    at, stride, group_stride, count, groups, channels = heads(x)
    out_at, out_stride, out_count, width = rows(out)
    weight_at, code = vector(weight.flatten(), weight.numel())
    taps, (slot_stride, tap_stride, step) = weight.shape[-1], state.stride()
    shapes = weight.shape == (width, 1, taps) and state.shape[1:] == (taps - 1, width)
    if not shapes or count != out_count or groups * channels != width or taps > _native.MOST_TAPS:
        refuse(f"weights [C, 1, up to {_native.MOST_TAPS}] and C channels", x, weight, state, out)
    if state.dtype is not torch.float32 or step != 1:
        refuse("a float32 state with contiguous channels", state)
    bias_at, bias_code = (0, 0) if bias is None else vector(bias, width)
    return (
        at, stride, group_stride, weight_at, code, bias_at, bias_code, state.data_ptr(),
        slot_stride, tap_stride, _sequences(batch), groups, channels, taps, out_at, out_stride,
    )  # fmt: skip


def delta(
    x: Tensor,
    rates: Tensor,
    decays: Tensor,
    decay_log: Tensor,
    decay_bias: Tensor,
    state: Tensor,
    batch: MicroBatch,
    out: Tensor,
) -> _native.Delta:
    """Of x[T, q | k | v] and state[slots, heads, key_dim, value_dim] into out[T, values]."""
    at, stride, count, width = rows(x)
    out_at, out_stride, out_count, out_width = rows(out)
    _, head_count, key_dim, value_dim = state.shape
    rates_at, rates_stride, rates_group, rate_count, groups, shared = heads(rates)
    decays_at, decays_stride, decays_group, *decays_shape = heads(decays)
    if [count, groups, shared] != [rate_count, *decays_shape[1:]] or groups * shared != head_count:
        refuse("a rate and a decay for each row and head", rates, decays, state)
    wanted = 2 * groups * key_dim + head_count * value_dim, head_count * value_dim
    if (width, out_width) != wanted or count != out_count or key_dim > _native.MOST_KEY_DIM:
        refuse(f"heads of up to {_native.MOST_KEY_DIM} channels, as the state's", x, state, out)
    if state.dtype is not torch.float32 or not state.is_contiguous():
        refuse("a contiguous float32 state", state)
    return (
        at, stride, (rates_at, rates_stride, rates_group), (decays_at, decays_stride, decays_group),
        vector(decay_log, head_count), vector(decay_bias, head_count), state.data_ptr(),
        head_count * key_dim * value_dim, _sequences(batch), groups, head_count, key_dim,
        value_dim, out_at, out_stride,
    )  # fmt: skip


def scan(
    x: Tensor, steps: Tensor, factors: ScanFactors, state: Tensor, batch: MicroBatch, out: Tensor
) -> _native.Scan:
    """Of x[T, v | k | q] and state[slots, heads, key_dim, value_dim] into out[T, values]."""
    at, stride, count, width = rows(x)
    steps_at, steps_stride, *steps_shape = rows(steps)
    out_at, out_stride, *out_shape = rows(out)
    _, head_count, key_dim, value_dim = state.shape
    groups, rest = divmod(width - head_count * value_dim, 2 * key_dim)
    if rest or groups < 1 or head_count % groups:
        refuse("values of all heads, then keys and queries of their groups", x, state)
    if steps_shape != [count, head_count] or out_shape != [count, head_count * value_dim]:
        refuse("a step for each row and head, and an output of all values", steps, out, state)
    if state.dtype is not torch.float32 or not state.is_contiguous():
        refuse("a contiguous float32 state", state)
    decay_log, step_bias, skip = (vector(factor, head_count) for factor in factors[:3])
    return (
        at, stride, steps_at, steps_stride, decay_log, step_bias, skip, *factors[3:],
        state.data_ptr(), head_count * key_dim * value_dim, _sequences(batch), groups, head_count,
        key_dim, value_dim, out_at, out_stride,
    )  # fmt: skip


def _sequences(batch: MicroBatch) -> _native.Sequences:
    """Where rows begin, contexts, and slots of states."""
    assert batch.states is not None
    count = len(batch.states)
    return (
        indices(batch.query_starts, torch.int32, count + 1),
        indices(batch.context_lens, torch.int32, count),
        indices(batch.states, torch.int32, count),
        count,
    )
