"""Products of every format with weights from memory and from the cache, in turns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch

from lm_offload.hardware.clock import Clock
from lm_offload.hardware.curve import Curve
from lm_offload.hardware.effort import Effort
from lm_offload.hardware.product_ends import Ends, ProductEnds
from lm_offload.hardware.product_probe import FORMATS, Products
from lm_offload.hardware.product_rates import CACHED_SIZE, MEMORY_SIZE
from lm_offload.hardware.product_starts import ProductStarts
from lm_offload.kernels.base import Kernels
from lm_offload.quant.format import Format
from lm_offload.storage.arena import Arena
from lm_offload.units import MIB

SMALL_BYTES = 4 * MIB  # enough for products of which only differences count
CACHED_TIME_FRAC = 0.4  # of the time for products
STARTS_TIME_FRAC = 0.1  # of that, for the start of a product
ENDS_TIME_FRAC = 0.35  # of that, for inputs and outputs


class ProductRates(NamedTuple):
    """By format: curves with weights from the cache and from memory, and what goes beside them."""

    cached: dict[str, Curve]
    uncached: dict[str, Curve]
    ends: dict[str, Ends]
    cached_start_s: float


def measure_products(
    kernels: Kernels,
    small: Arena,
    arena: Arena,
    effort: Effort,
    fixed_s: tuple[float, float],
    clock: Clock,
) -> ProductRates:
    """With weights in `small` from the cache, and in `arena` from memory.

    `fixed_s` are a work without any, and what a product from memory takes beside its FLOPs. The
    pace of a shared machine moves within a second: it is to be the same for all formats, so those
    from memory are measured side by side, and each of those from the cache, which would push one
    another out of a small one, in many short turns.
    """
    formats = (*FORMATS, *effort.other_formats)
    cached, uncached = Products(CACHED_SIZE, cached=True), Products(MEMORY_SIZE, cached=False)
    beside = ProductEnds(), ProductStarts()

    def measure_turn(budget_s: float) -> None:
        for some in _together(formats, arena.size_bytes):
            part_s = budget_s * (1 - CACHED_TIME_FRAC) * len(some) / len(formats)
            uncached.measure(kernels, arena, some, effort.rows, part_s)
        short = [*formats] * effort.turns
        for format in short:
            short_s = budget_s * CACHED_TIME_FRAC / len(short)
            _measure_cached(kernels, small, format, effort.rows, cached, beside, short_s)

    for turn in range(effort.turns):
        clock.watched("products", measure_turn, f"{turn + 1} of {effort.turns}", effort.turns)
    ends, starts = beside
    kernel_s, uncached_s = fixed_s
    start_s = starts.beside_s(kernel_s)
    return ProductRates(
        _curves(cached, formats, kernel_s + start_s),
        _curves(uncached, formats, uncached_s),
        {str(format): ends.of(format, kernel_s + start_s) for format in formats},
        start_s,
    )


def _curves(products: Products, formats: Iterable[Format], fixed_s: float) -> dict[str, Curve]:
    """Of the formats that there was time for, the first one in any case."""
    found = {str(format): products.flops(format, fixed_s) for format in formats}
    return {name: curve for name, curve in found.items() if curve is not None}


def _measure_cached(
    kernels: Kernels,
    arena: Arena,
    format: Format,
    rows: Iterable[int],
    products: Products,
    beside: tuple[ProductEnds, ProductStarts],
    budget_s: float,
) -> None:
    """A short turn of one format with weights in `arena`, and of what goes beside its rates."""
    ends, starts = beside
    few = arena.slice(0, min(SMALL_BYTES, arena.size_bytes))
    products_s = budget_s * (1 - ENDS_TIME_FRAC - STARTS_TIME_FRAC)
    products.measure(kernels, arena, [format], rows, products_s)
    ends.measure(kernels, few, format, budget_s * ENDS_TIME_FRAC)
    starts.measure(kernels, few, budget_s * STARTS_TIME_FRAC)


def _together(formats: Sequence[Format], size_bytes: int) -> list[Sequence[Format]]:
    """As many formats at once as have matrices of full size in so many bytes."""
    count = max(size_bytes // (2 * MEMORY_SIZE**2 * torch.float32.itemsize), 1)
    return [formats[start : start + count] for start in range(0, len(formats), count)]
