"""Ratios of figures that were taken in the same round: their middle, and where it may lie.

The middle is the median of the geometric means of any two rounds (Hodges and Lehmann 1963), the
pseudomedian. A stall of one round moves it no more than a median, and it scatters less: of rounds
with normal noise it needs two for three of the median's, and two rounds in which the other engine
came first average out what drifts from one run to the next.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

COVERED_SIGMA = 1.7  # an interval that holds the middle of all possible rounds nine times in ten
LEAST_ROUNDS = 5  # of which the least and the most hold the middle nine times in ten
LEAST = 1e-12  # of a share that is zero
MOST_PAIRED = 500  # rounds; more are taken together, neighbours by their median


def quotients(above: Iterable[float], below: Iterable[float]) -> list[float]:
    """One figure over another one, round by round."""
    return [one / other for one, other in zip(above, below, strict=True)]


def middle(rounds: Sequence[float]) -> float:
    """The pseudomedian of at least one round."""
    return math.exp(np.median(_averages(rounds)))


def interval(rounds: Sequence[float]) -> tuple[float, float]:
    """What the pseudomedian may be, from the order of the averages alone; all of few rounds.

    Rounds lie as far above the true one as below it, so the number of averages above it is
    Wilcoxon's signed rank sum (Hollander and Wolfe, Nonparametric Statistical Methods, 3.3; here by
    its normal approximation).
    """
    averages = np.sort(_averages(rounds))
    count = (math.isqrt(8 * len(averages) + 1) - 1) // 2
    spread = math.sqrt(count * (count + 1) * (2 * count + 1) / 24)
    outside = max(0, int(len(averages) / 2 - COVERED_SIGMA * spread - 0.5))
    return math.exp(averages[outside]), math.exp(averages[-1 - outside])


def _averages(rounds: Sequence[float]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Of the logarithms of any two rounds, and of each with itself."""
    together = -(-len(rounds) // MOST_PAIRED)
    groups = [rounds[first : first + together] for first in range(0, len(rounds), together)]
    values = np.log([max(statistics.median(group), LEAST) for group in groups])
    one, other = np.triu_indices(len(values))
    averages: np.ndarray[tuple[int], np.dtype[np.float64]] = (values[one] + values[other]) / 2
    return averages


def half_width_frac(rounds: Sequence[float]) -> float:
    """Half of the interval over the middle; infinite of a single round."""
    if len(rounds) < 2:
        return math.inf
    low, high = interval(rounds)
    return (high - low) / 2 / middle(rounds)


def with_interval(name: str, rounds: Sequence[float]) -> dict[str, Any]:
    """The entries of a row for a ratio; a single round has no interval."""
    found: dict[str, Any] = {name: middle(rounds)}
    if len(rounds) > 1:
        found[f"{name}_interval"] = interval(rounds)
    return found


def with_bounds(row: dict[str, Any], key: str, form: str) -> str:
    """A ratio and its interval in words."""
    low, high = row[f"{key}_interval"]
    return f"{row[key]:{form}} ({low:{form}} to {high:{form}})"
