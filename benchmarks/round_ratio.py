"""Ratios of figures that were taken in the same round: their median, and where it may lie."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

COVERED_SIGMA = 1.645  # an interval that holds the median of all possible rounds nine times in ten


def quotients(above: Iterable[float], below: Iterable[float]) -> list[float]:
    """One figure over another one, round by round."""
    return [one / other for one, other in zip(above, below, strict=True)]


def interval(rounds: Sequence[float]) -> tuple[float, float]:
    """What the median of `rounds` may be, from their order alone; all of them below eight rounds.

    A round lies above the true median as often as below it, so the number above is binomial
    (David and Nagaraja, Order Statistics, 7.1; here by its normal approximation).
    """
    ordered, count = sorted(rounds), len(rounds)
    outside = max(0, int((count - COVERED_SIGMA * math.sqrt(count) - 1) / 2))
    return ordered[outside], ordered[-1 - outside]


def half_width_frac(rounds: Sequence[float]) -> float:
    """Half of the interval over the median; infinite of a single round."""
    if len(rounds) < 2:
        return math.inf
    low, high = interval(rounds)
    return (high - low) / 2 / statistics.median(rounds)


def with_interval(name: str, rounds: Sequence[float]) -> dict[str, Any]:
    """The entries of a row for a ratio; a single round has no interval."""
    found: dict[str, Any] = {name: statistics.median(rounds)}
    if len(rounds) > 1:
        found[f"{name}_interval"] = interval(rounds)
    return found


def with_bounds(row: dict[str, Any], key: str, form: str) -> str:
    """A ratio and its interval in words."""
    low, high = row[f"{key}_interval"]
    return f"{row[key]:{form}} ({low:{form}} to {high:{form}})"
