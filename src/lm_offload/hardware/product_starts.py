"""What products of one row take beside their weights, until all threads take part.

Matrices of two sizes tell it, packed ones, as their products are short. It is little, and all that
is measured of products from the cache is less this, so it is seen in several turns.
"""

from __future__ import annotations

import math
import statistics

from lm_offload.hardware.product_probe import matrices
from lm_offload.hardware.product_rates import CACHED_SIZE
from lm_offload.hardware.product_work import product_work
from lm_offload.hardware.timing import typical_s
from lm_offload.kernels.base import Kernels
from lm_offload.quant.format import Format
from lm_offload.storage.arena import Arena
from lm_offload.units import align_down

PACKED = Format("int8", 64)
CACHED_PAIR = (CACHED_SIZE // 2, CACHED_SIZE)


class ProductStarts:
    """Seconds by matrices of the two sizes of `pair`, square ones, taken in several turns."""

    def __init__(self, pair: tuple[int, int] = CACHED_PAIR) -> None:
        self._pair = pair
        self._turns: list[float] = []  # of a call of next to no weights

    def measure(self, kernels: Kernels, arena: Arena, budget_s: float) -> None:
        """Another turn with weights in `arena`; none where there is no time or memory for two."""
        half_bytes = align_down(arena.size_bytes // 2)
        small, large = (
            matrices(arena.slice(start, half_bytes), PACKED, size)
            for start, size in zip((0, half_bytes), self._pair, strict=True)
        )
        works = {some[0].shape: product_work(kernels, some, 1) for some in (small, large)}
        seconds = typical_s(works, budget_s)
        if len(seconds) < 2:
            return
        frac = math.prod(small[0].shape) / math.prod(large[0].shape)
        small_s, large_s = seconds.values()
        self._turns.append((small_s - frac * large_s) / (1 - frac))

    def beside_s(self, kernel_s: float) -> float:
        """The median of the turns, less a call that has nothing to do; 0 where there was none."""
        if not self._turns:
            return 0.0
        return max(statistics.median(self._turns) - kernel_s, 0.0)
