"""A scale from values to fractions of an axis, with round numbers on it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

MARGIN_FRAC = 0.05  # around the values
STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
FEW_DECADES = 3.0  # up to which 2 and 5 are marked between the powers of ten


@dataclass(frozen=True)
class Axis:
    """From `low` to `high`, in equal steps or in equal factors."""

    low: float
    high: float
    log: bool

    def frac(self, value: float) -> float:
        """0 at the low end, 1 at the high end."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> Iterator[tuple[float, str]]:
        """Round values and their texts."""
        values = self._powers() if self.log else self._multiples()
        for value in values:
            if self.low * (1 - 1e-9) <= value <= self.high * (1 + 1e-9):
                yield value, f"{value:,.6g}".replace(",", " ")

    def _powers(self) -> Iterator[float]:
        decades = math.log10(self.high / self.low)
        factors = (1, 2, 5) if decades <= FEW_DECADES else (1,)
        for power in range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1):
            yield from (factor * 10.0**power for factor in factors)

    def _multiples(self) -> Iterator[float]:
        rough = (self.high - self.low) / 5
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(factor * power for factor in STEPS if factor * power >= rough)
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        yield from (index * step for index in range(first, last + 1))


def axis_of(values: Sequence[float], log: bool) -> Axis:
    """An axis with a margin around the values; one in equal steps begins at 0 if it can."""
    low, high = min(values, default=1.0), max(values, default=1.0)
    if log:
        factor = max(high / low, 2.0) ** MARGIN_FRAC
        return Axis(low / factor, high * factor if high > low else 2 * high, log)
    margin = MARGIN_FRAC * ((high - min(low, 0.0)) or 1.0)
    return Axis(low - margin if low < 0 else 0.0, high + margin, log)
