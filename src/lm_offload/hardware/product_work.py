"""Products as works to be timed: with another matrix of some at each call."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lm_offload.hardware.replayed_call import Replay, replay_of
from lm_offload.hardware.timing import typical_s
from lm_offload.kernels.base import Kernels
from lm_offload.quant.format import TILE_ROWS
from lm_offload.quant.packed import PackedWeight

if TYPE_CHECKING:
    from lm_offload.kernels.base import Weight

LAYER_PRODUCTS = 4  # that have an input of their own: q, k and v; o; gate and up; down
MANY_ROWS = 16  # whose inputs and outputs are more than the inner caches hold


def product_work(kernels: Kernels, weights: Sequence[Weight], rows: int) -> Callable[[], None]:
    """A function that multiplies by the next matrix at each call, replayed where that is possible.

    A layer has several inputs and outputs: many rows of them leave the caches of the cores.
    """
    count, width = weights[0].shape
    places = LAYER_PRODUCTS if rows >= MANY_ROWS else 1
    ends = [(torch.randn(rows, width), torch.empty(rows, count)) for _ in range(places)]
    replays = [replay_of(kernels, partial(_multiply, weights[0], *both)) for both in ends]
    known = [replay for replay in replays if replay is not None]
    if len(known) == len(ends):
        return _replayed(known, weights)
    endless = zip(itertools.cycle(weights), itertools.cycle(ends))

    def work() -> None:
        weight, (x, out) = next(endless)
        kernels.linear(x, weight, out)

    return work


def empty_call(kernels: Kernels) -> Callable[[], None]:
    """A product of eight weights with eight, asked for in Python."""
    x, out = torch.ones(1, TILE_ROWS), torch.empty(1, TILE_ROWS)
    weight = torch.ones(TILE_ROWS, TILE_ROWS, dtype=torch.bfloat16)
    return lambda: kernels.linear(x, weight, out)


def measure_work_s(kernels: Kernels, budget_s: float) -> float:
    """Seconds of a work that has next to nothing to do: what all others take beside their own."""
    weights = [torch.ones(TILE_ROWS, TILE_ROWS, dtype=torch.bfloat16)]
    return typical_s({"work": product_work(kernels, weights, 1)}, budget_s)["work"]


def _multiply(weight: Weight, x: Tensor, out: Tensor, kernels: Kernels) -> None:
    kernels.linear(x, weight, out)


def _replayed(replays: Sequence[Replay], weights: Sequence[Weight]) -> Callable[[], None]:
    """All matrices by recordings of the first one, which are told how far they lie from it."""
    shifts = (_address(weight) - _address(weights[0]) for weight in weights)
    places = zip(shifts, weights, strict=True)  # which are kept with their memory
    endless = zip(itertools.cycle(places), itertools.cycle(replays))

    def work() -> None:
        (shift, _), replay = next(endless)
        replay(shift, 0)

    return work


def _address(weight: Weight) -> int:
    return (weight.data if isinstance(weight, PackedWeight) else weight).data_ptr()
