"""What of the last-level cache is left to this machine, and what small reads past it cost more.

A virtual machine shares the cache with its neighbours: less of it holds its weights than the
system names. Beyond it a product begins slowly, until all threads take part and memory streams.
"""

from __future__ import annotations

from typing import NamedTuple

from lm_offload.hardware.memory_probe import last_level_cache_bytes
from lm_offload.hardware.product_probe import PLAIN, matrices, product_work
from lm_offload.hardware.product_rates import CACHED_SIZE, MEMORY_SIZE
from lm_offload.hardware.product_starts import ProductStarts
from lm_offload.hardware.timing import typical_s
from lm_offload.kernels.base import Kernels
from lm_offload.storage.arena import Arena

CACHE_FRACS = (0.125, 0.25, 0.375, 0.5, 0.75, 1.0)  # of the cache that the system names


class CacheCosts(NamedTuple):
    """Bytes that stay in the cache from sweep to sweep; what products from memory begin with."""

    cache_bytes: int
    start_s: float


def measure_cache(kernels: Kernels, arena: Arena, kernel_s: float, budget_s: float) -> CacheCosts:
    """Small products of one row over ever more matrices, then small beside large ones."""
    named_bytes = min(last_level_cache_bytes(), arena.size_bytes)
    sizes = (*(int(frac * named_bytes) for frac in CACHE_FRACS), arena.size_bytes)
    weights = {size: matrices(arena.slice(0, size), PLAIN, CACHED_SIZE) for size in sizes}
    works = {size: product_work(kernels, some, 1) for size, some in weights.items()}
    seconds = typical_s(works, budget_s / 2)
    if len(seconds) < len(sizes):  # there was no time for the last
        return CacheCosts(named_bytes, 0.0)
    halfway_s = (seconds[sizes[0]] + seconds[sizes[-1]]) / 2
    kept = [size for size in sizes[:-1] if seconds[size] <= halfway_s]
    starts = ProductStarts((CACHED_SIZE, MEMORY_SIZE))
    starts.measure(kernels, arena, budget_s / 2)
    return CacheCosts(max(kept, default=sizes[0]), starts.beside_s(kernel_s))
