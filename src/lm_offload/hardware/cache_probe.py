"""What of the last-level cache is left to this machine, and what small reads past it cost more.

A virtual machine shares the cache with its neighbours: less of it holds its weights than the
system names. Beyond it a product begins slowly, until all threads take part and memory streams.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from lm_offload.hardware.memory_probe import last_level_cache_bytes
from lm_offload.hardware.product_probe import PLAIN, matrices, product_work
from lm_offload.hardware.product_rates import CACHED_SIZE, MEMORY_SIZE
from lm_offload.hardware.timing import typical_s
from lm_offload.kernels.base import Kernels
from lm_offload.quant.format import Format
from lm_offload.storage.arena import Arena
from lm_offload.units import align_down

PACKED = Format("int8", 64)  # whose products are short, so that their start counts
CACHED_PAIR = (CACHED_SIZE // 2, CACHED_SIZE)
CACHE_FRACS = (0.125, 0.25, 0.375, 0.5, 0.75, 1.0)  # of the cache that the system names


class CacheCosts(NamedTuple):
    """Bytes that stay in the cache from sweep to sweep; what products take beside their weights.

    Seconds with weights from the cache, where all threads must take part, and from memory.
    """

    cache_bytes: int
    cached_start_s: float
    start_s: float


def measure_cache(kernels: Kernels, arena: Arena, kernel_s: float, budget_s: float) -> CacheCosts:
    """Small products of one row over ever more matrices, then small beside large ones."""
    named_bytes = min(last_level_cache_bytes(), arena.size_bytes)
    sizes = (*(int(frac * named_bytes) for frac in CACHE_FRACS), arena.size_bytes)
    weights = {size: matrices(arena.slice(0, size), PLAIN, CACHED_SIZE) for size in sizes}
    works = {size: product_work(kernels, some, 1) for size, some in weights.items()}
    seconds = typical_s(works, budget_s / 2)
    if len(seconds) < len(sizes):  # there was no time for the last
        return CacheCosts(named_bytes, 0.0, 0.0)
    halfway_s = (seconds[sizes[0]] + seconds[sizes[-1]]) / 2
    kept = [size for size in sizes[:-1] if seconds[size] <= halfway_s]
    cached_s, start_s = (
        _start_s(kernels, memory, pair, kernel_s, budget_s / 4)
        for memory, pair in (
            (arena.slice(0, sizes[0]), CACHED_PAIR),
            (arena, (CACHED_SIZE, MEMORY_SIZE)),
        )
    )
    return CacheCosts(max(kept, default=sizes[0]), cached_s, start_s)


def _start_s(
    kernels: Kernels, memory: Arena, pair: tuple[int, int], kernel_s: float, budget_s: float
) -> float:
    """What does not grow with the weights of a product of one row, by matrices of two sizes."""
    half_bytes = align_down(memory.size_bytes // 2)
    small, large = (
        matrices(memory.slice(start, half_bytes), PACKED, size)
        for start, size in zip((0, half_bytes), pair, strict=True)
    )
    works = {some[0].shape: product_work(kernels, some, 1) for some in (small, large)}
    seconds = typical_s(works, budget_s)
    if len(seconds) < 2:  # no time or no memory for two
        return 0.0
    frac = math.prod(small[0].shape) / math.prod(large[0].shape)
    small_s, large_s = seconds.values()
    return max((small_s - frac * large_s) / (1 - frac) - kernel_s, 0.0)
