"""Attention as works to be timed: over the keys and values of another layer at each call."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from lm_offload.hardware.replayed_call import replay_of
from lm_offload.kernels.base import Kernels
from lm_offload.micro_batch import MicroBatch
from lm_offload.quant.kv_blocks import Blocks, address_of

Layer = tuple[Blocks, Blocks]  # keys and values


class Rows(NamedTuple):
    """Queries of a batch, their outputs [T, heads, head_dim] and the layers that they see."""

    q: Tensor
    out: Tensor
    batch: MicroBatch
    layers: Sequence[Layer]


def rows_of(
    batch: MicroBatch, layers: Sequence[Layer], num_heads: int, device: torch.device
) -> Rows:
    """Random queries of `num_heads` heads, on `device` with their batch."""
    keys, _ = layers[0]
    q = torch.randn(batch.num_tokens, num_heads, keys.shape[3]).to(device)
    return Rows(q, torch.empty_like(q), batch.on(device, device), layers)


def asked_work(kernels: Kernels, rows: Rows) -> Callable[[], None]:
    """A function that asks for attention in the next layer at each call."""
    endless = itertools.cycle(rows.layers)
    return lambda: _attend(rows, next(endless), kernels)


def replayed_work(kernels: Kernels, rows: Rows) -> Callable[[], None]:
    """The same by a recording of the first layer's call, where there can be one."""
    replay = replay_of(kernels, partial(_attend, rows, rows.layers[0]))
    if replay is None:
        return asked_work(kernels, rows)
    starts = [address_of(keys) for keys, _ in rows.layers]
    endless = itertools.cycle([start - starts[0] for start in starts])
    return lambda: replay(0, next(endless))


def _attend(rows: Rows, layer: Layer, kernels: Kernels) -> None:
    scale = rows.q.shape[-1] ** -0.5
    kernels.attention(rows.q, *layer, rows.batch, scale, rows.out)
