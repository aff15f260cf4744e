"""What recurrent layers do to their states in plain torch, row by row: the reference for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from lm_offload.kernels.state_kernels import ScanFactors
    from lm_offload.micro_batch import MicroBatch

LINEAR_FROM = 20.0  # where log(1 + e^x) is x
LEAST_SQUARES = 1e-6  # added to those of queries and keys whose length becomes one


class _Span(NamedTuple):
    """The rows of one sequence, and where its state lies."""

    start: int
    stop: int
    slot: int
    begins: bool


def causal_convolution(
    x: Tensor,
    weight: Tensor,
    state: Tensor,
    batch: MicroBatch,
    out: Tensor,
    bias: Tensor | None = None,
) -> None:
    """See `Kernels.causal_convolution`."""
    plain_convolution(x, weight, state, batch, out, bias)
    # Of torch's SiLU the last bits depend on where a value lies, see torch_kernels.py.
    out.div_(torch.exp(-out).add_(1.0))


def plain_convolution(
    x: Tensor,
    weight: Tensor,
    state: Tensor,
    batch: MicroBatch,
    out: Tensor,
    bias: Tensor | None = None,
) -> None:
    """See `Kernels.plain_convolution`."""
    taps, rows = weight.shape[-1], x.flatten(1)
    factors = weight.float().flatten(1).T  # [taps, channels]
    for span in _spans(batch):
        if span.begins:
            state[span.slot] = 0.0
        inputs = torch.cat([state[span.slot], rows[span.start : span.stop]])
        count = span.stop - span.start
        total = inputs[:count] * factors[0]
        for tap in range(1, taps):
            total += inputs[tap : tap + count] * factors[tap]
        if bias is not None:
            total += bias.float()
        out[span.start : span.stop] = total
        state[span.slot] = inputs[count:]


def gated_delta(
    x: Tensor,
    rates: Tensor,
    decays: Tensor,
    decay_log: Tensor,
    decay_bias: Tensor,
    state: Tensor,
    batch: MicroBatch,
    out: Tensor,
) -> None:
    """See `Kernels.gated_delta`; row by row, of all sequences that have as many."""
    _, heads, key_dim, value_dim = state.shape
    q, k, v = _by_head(x, rates.shape[1], heads, key_dim, value_dim)
    kept = torch.exp(-decay_log.float().exp() * _softplus(decays.flatten(1) + decay_bias.float()))
    learned = 1.0 / torch.exp(-rates.flatten(1)).add_(1.0)
    attended = out.view(len(out), heads, value_dim)
    for rows, now in _turns(state, batch):
        now *= kept[rows][..., None, None]
        recalled = (now * k[rows][..., None]).sum(-2)
        change = (v[rows] - recalled) * learned[rows][..., None]
        now += k[rows][..., None] * change[..., None, :]
        attended[rows] = (now * q[rows][..., None]).sum(-2)


def selective_scan(
    x: Tensor, steps: Tensor, factors: ScanFactors, state: Tensor, batch: MicroBatch, out: Tensor
) -> None:
    """See `Kernels.selective_scan`; row by row, of all sequences that have as many."""
    _, heads, key_dim, value_dim = state.shape
    width = heads * value_dim
    values = x[:, :width].view(len(x), heads, value_dim)
    groups = (x.shape[1] - width) // (2 * key_dim)
    shared = x[:, width:].view(len(x), 2, groups, key_dim)
    k, q = shared.repeat_interleave(heads // groups, 2).unbind(1)
    step = _softplus(steps + factors.step_bias.float())
    step.clamp_(factors.least_step, factors.most_step)
    kept = torch.exp(-factors.decay_log.float().exp() * step)
    added, read = values * step[..., None], out.view(len(out), heads, value_dim)
    for rows, now in _turns(state, batch):
        now *= kept[rows][..., None, None]
        now += k[rows][..., None] * added[rows][..., None, :]
        read[rows] = (now * q[rows][..., None]).sum(-2)
    read += values * factors.skip.float()[:, None]


def _turns(state: Tensor, batch: MicroBatch) -> Iterator[tuple[list[int], Tensor]]:
    """The next row of each sequence that has one, and their matrices, to be moved on in place."""
    spans = sorted(_spans(batch), key=lambda span: span.start - span.stop)
    slots = [span.slot for span in spans]
    matrices = state[slots]
    matrices[[span.begins for span in spans]] = 0.0
    for step in range(max((span.stop - span.start for span in spans), default=0)):
        rows = [span.start + step for span in spans if span.start + step < span.stop]
        yield rows, matrices[: len(rows)]
    state[slots] = matrices


def _by_head(
    x: Tensor, key_heads: int, heads: int, key_dim: int, value_dim: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys [T, heads, key_dim] of length one, queries scaled; values [T, heads, dim]."""
    sizes = [key_heads * key_dim] * 2 + [heads * value_dim]
    q, k, v = torch.split(x, sizes, -1)
    q, k = (_normalised(each.view(len(x), key_heads, key_dim)) for each in (q, k))
    shared = heads // key_heads
    q, k = (each.repeat_interleave(shared, 1) for each in (q * key_dim**-0.5, k))
    return q, k, v.view(len(x), heads, value_dim)


def _normalised(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + LEAST_SQUARES)


def _softplus(x: Tensor) -> Tensor:
    """Of torch's own the last bits depend on where a value lies."""
    return torch.where(x > LINEAR_FROM, x, x.exp().log1p())


def _spans(batch: MicroBatch) -> Iterator[_Span]:
    """Of the sequences that have rows."""
    assert batch.states is not None
    starts, slots = batch.query_starts.tolist(), batch.states.tolist()
    for index, context in enumerate(batch.context_lens.tolist()):
        start, stop = starts[index], starts[index + 1]
        if start < stop:
            yield _Span(start, stop, slots[index], context == stop - start)
