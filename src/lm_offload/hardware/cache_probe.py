"""What of the last-level cache is left to this machine, and what small reads past it cost more.

A virtual machine shares the cache with its neighbours: less of it holds its weights than the
system names. Of what exceeds it a part is still found there. Beyond it a product begins slowly,
until all threads take part and memory streams.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import NamedTuple

from lm_offload.hardware.curve import Curve
from lm_offload.hardware.memory_probe import last_level_cache_bytes
from lm_offload.hardware.product_probe import PLAIN, matrices, settled_s, work_s
from lm_offload.hardware.product_rates import CACHED_SIZE, MEMORY_SIZE
from lm_offload.hardware.product_starts import ProductStarts
from lm_offload.hardware.product_work import product_work
from lm_offload.kernels.base import Kernels
from lm_offload.storage.arena import Arena
from lm_offload.units import MIB

# Of weights that stay in the last-level cache, but not in those of the cores, which pass each on
# from sweep to sweep: out of 4 MiB products of one row took three quarters of what they take out of
# 16 to 32 MiB.
CACHED_BYTES = 16 * MIB
CACHE_FRACS = (0.125, 0.25, 0.375, 0.5, 0.75, 1.0)  # of the cache that the system names
PAST_CACHE_FRACS = (1.5, 2.0)


class CacheCosts(NamedTuple):
    """Bytes that stay in the cache from sweep to sweep; what products from memory begin with.

    `bytes_per_s`: by bytes from `cached_bytes` on, how fast products of one row read them.
    """

    cache_bytes: int
    start_s: float
    bytes_per_s: Curve | None = None

    @property
    def cached_bytes(self) -> int:
        """Enough weights to tell the rates of products from the cache."""
        return min(CACHED_BYTES, self.cache_bytes)


def measure_cache(kernels: Kernels, arena: Arena, kernel_s: float, budget_s: float) -> CacheCosts:
    """Small products of one row over ever more matrices, then small beside large ones."""
    named_bytes = min(last_level_cache_bytes(), arena.size_bytes)
    wanted = (int(frac * named_bytes) for frac in (*CACHE_FRACS, *PAST_CACHE_FRACS))
    sizes = (*(size for size in wanted if size < arena.size_bytes), arena.size_bytes)
    weights = {size: matrices(arena.slice(0, size), PLAIN, CACHED_SIZE) for size in sizes}
    part_s = budget_s / 2 / len(sizes)
    seconds = {
        size: settled_s(product_work(kernels, some, 1), kernels, some, part_s)
        for size, some in weights.items()
    }
    halfway_s = (seconds[sizes[0]] + seconds[sizes[-1]]) / 2
    kept = (size for size in sizes[:-1] if size <= named_bytes and seconds[size] <= halfway_s)
    starts = ProductStarts((CACHED_SIZE, MEMORY_SIZE))
    starts.measure(kernels, arena, budget_s / 2)
    costs = CacheCosts(max(kept, default=sizes[0]), starts.beside_s(kernel_s))
    matrix_bytes = PLAIN.matrix_bytes(*weights[sizes[0]][0].shape)
    read_s = {
        size: work_s(seconds[size], kernel_s) / matrix_bytes
        for size in sizes
        if size >= costs.cached_bytes
    }
    return costs._replace(bytes_per_s=falling(read_s))


def falling(read_s: Mapping[int, float]) -> Curve | None:
    """Bytes per second of seconds per byte, which do not fall: a stall at one size is no more.

    None where memory is no slower.
    """
    rising = [*itertools.accumulate(read_s.values(), max)]
    if rising[-1] <= rising[0]:
        return None
    return Curve.through({size: 1 / s for size, s in zip(read_s, rising, strict=True)})
