"""Products on a device as they are timed, and where two ways to multiply cross."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from lm_offload.kernels.base import Kernels

if TYPE_CHECKING:
    from lm_offload.kernels.base import Weight

TINY = 8


def crossing(seconds: Mapping[tuple[int, bool], float]) -> int:
    """Rows up to which the first way is faster; seconds by rows, which ascend, and way.

    1 where it never is: a single row is what it is made for.
    """
    few_rows = 1
    for rows, as_it_is in seconds:
        if as_it_is:
            continue
        if seconds[rows, True] > seconds[rows, False]:
            break
        few_rows = rows
    return few_rows


def tiny_product(kernels: Kernels, here: torch.device) -> Callable[[], None]:
    """A product of eight weights with eight."""
    x, out = torch.ones(1, TINY, device=here), torch.empty(1, TINY, device=here)
    weight = torch.ones(TINY, TINY, dtype=torch.bfloat16, device=here)
    return lambda: kernels.linear(x, weight, out)


def endless_product(
    kernels: Kernels, weights: Sequence[Weight], rows: int, here: torch.device
) -> Callable[[], None]:
    """By the next matrix at each call: one alone would stay in the cache of a large GPU."""
    count, width = weights[0].shape
    x, out = torch.ones(rows, width, device=here), torch.empty(rows, count, device=here)
    endless = itertools.cycle(weights)
    return lambda: kernels.linear(x, next(endless), out)
