"""A rate by size, measured at some sizes: what every figure of a machine is given as."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass


@dataclass(frozen=True)
class Curve:
    """A rate known at some sizes; between them straight on logarithmic axes, flat beyond the ends.

    Sizes ascend; sizes and rates are positive.
    """

    sizes: tuple[float, ...]
    rates: tuple[float, ...]

    def at(self, size: float) -> float:
        """The rate at `size`."""
        right = bisect_right(self.sizes, size)
        if right == 0:
            return self.rates[0]
        if right == len(self.sizes):
            return self.rates[-1]
        low, high = self.sizes[right - 1], self.sizes[right]
        share = math.log(size / low) / math.log(high / low)
        return math.exp(
            (1 - share) * math.log(self.rates[right - 1]) + share * math.log(self.rates[right])
        )
