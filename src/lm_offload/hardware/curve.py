"""A rate by size, measured at some sizes: what every figure of a machine is given as."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Curve:
    """A rate known at some sizes; between them straight on logarithmic axes, flat beyond the ends.

    Sizes ascend; sizes and rates are positive.
    """

    sizes: tuple[float, ...]
    rates: tuple[float, ...]

    @classmethod
    def through(cls, rates: Mapping[int, float] | Mapping[float, float]) -> Curve:
        """Rates by size, which ascends."""
        return cls(tuple(map(float, rates)), tuple(rates.values()))

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

    def mapped(self, rate_of: Callable[[float, float], float]) -> Curve:
        """With a rate for each size and rate."""
        points = zip(self.sizes, self.rates, strict=True)
        return Curve(self.sizes, tuple(rate_of(size, rate) for size, rate in points))

    def scaled(self, factor: float) -> Curve:
        """With every rate times `factor`."""
        return Curve(self.sizes, tuple(rate * factor for rate in self.rates))


def all_scaled(curves: Mapping[str, Curve], factor: float) -> dict[str, Curve]:
    """Every curve with every rate times `factor`."""
    return {name: curve.scaled(factor) for name, curve in curves.items()}
