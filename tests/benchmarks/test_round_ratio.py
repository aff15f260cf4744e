"""What rounds say of the ratio behind them."""

from __future__ import annotations

import math
import random
import statistics

import pytest
from benchmarks.round_ratio import half_width_frac, interval, quotients, with_interval


def missed_frac(count):
    """How often the interval of `count` rounds misses their true median, here 1."""
    draw = random.Random(count)
    trials = [interval([draw.lognormvariate(0, 0.2) for _ in range(count)]) for _ in range(2000)]
    return sum(not low <= 1 <= high for low, high in trials) / len(trials)


@pytest.mark.parametrize("count", [5, 8, 11, 20, 60])
def test_an_interval_holds_the_median_nine_times_in_ten(count):
    assert missed_frac(count) < 0.11


def test_a_few_rounds_give_their_range_and_one_gives_none():
    assert interval([3.0, 1.0, 2.0]) == (1.0, 3.0)
    assert with_interval("x", [3.0, 1.0, 2.0]) == {"x": 2.0, "x_interval": (1.0, 3.0)}
    assert with_interval("x", [3.0]) == {"x": 3.0}
    assert half_width_frac([3.0]) == math.inf


def test_more_rounds_make_it_narrower():
    draw = random.Random(0)
    rounds = [draw.lognormvariate(0, 0.1) for _ in range(400)]
    assert half_width_frac(rounds) < half_width_frac(rounds[:20]) / 2
    low, high = interval(rounds)
    assert low < statistics.median(rounds) < high


def test_a_common_drift_cancels_out():
    pace = [1.0, 0.5, 2.0]
    assert quotients([6 * each for each in pace], [3 * each for each in pace]) == [2.0, 2.0, 2.0]
