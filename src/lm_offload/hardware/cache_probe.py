"""What of the last-level cache is left to this machine, and what small reads past it cost more.

A virtual machine shares the cache with its neighbours: less of it holds its weights than the
system names. Beyond it a product begins slowly, until the memory streams.
"""

from __future__ import annotations

from typing import NamedTuple

from lm_offload.hardware.memory_probe import last_level_cache_bytes
from lm_offload.hardware.product_probe import (
    CACHED_SIZE,
    MEMORY_SIZE,
    PLAIN,
    matrices,
    product_work,
    work_s,
)
from lm_offload.hardware.timing import typical_s
from lm_offload.kernels.base import Kernels
from lm_offload.storage.arena import Arena

CACHE_FRACS = (0.125, 0.25, 0.375, 0.5, 0.75, 1.0)  # of the cache that the system names


class CacheCosts(NamedTuple):
    """Bytes that stay in the cache from sweep to sweep; seconds by which a read past it starts."""

    cache_bytes: int
    start_s: float


def measure_cache(kernels: Kernels, arena: Arena, kernel_s: float, budget_s: float) -> CacheCosts:
    """Small products of one row over ever more matrices, beside large ones from memory."""
    named_bytes = min(last_level_cache_bytes(), arena.size_bytes)
    sizes = (*(int(frac * named_bytes) for frac in CACHE_FRACS), arena.size_bytes)
    small = {size: matrices(arena.slice(0, size), PLAIN, CACHED_SIZE) for size in sizes}
    large = matrices(arena, PLAIN, MEMORY_SIZE)
    works = {size: product_work(kernels, weights, 1) for size, weights in small.items()}
    seconds = typical_s({**works, None: product_work(kernels, large, 1)}, budget_s)
    if len(seconds) <= len(small):  # there was no time for the last
        return CacheCosts(named_bytes, 0.0)
    past_s, large_s = seconds[arena.size_bytes], work_s(seconds[None], kernel_s)
    (rows, width), (large_rows, large_width) = small[arena.size_bytes][0].shape, large[0].shape
    streamed_s = large_s * rows * width / (large_rows * large_width)
    halfway_s = (seconds[sizes[0]] + past_s) / 2
    kept = [size for size in sizes[:-1] if seconds[size] <= halfway_s]
    start_s = max(past_s - kernel_s - streamed_s, 0.0)
    return CacheCosts(max(kept, default=sizes[0]), start_s)
