"""What rounds say of the ratio behind them."""

from __future__ import annotations

import math
import random
import statistics

import pytest
from benchmarks.round_ratio import half_width_frac, interval, middle, quotients, with_interval


def missed_frac(count):
    """How often the interval of `count` rounds misses their true median, here 1."""
    draw = random.Random(count)
    trials = [interval([draw.lognormvariate(0, 0.2) for _ in range(count)]) for _ in range(2000)]
    return sum(not low <= 1 <= high for low, high in trials) / len(trials)


@pytest.mark.parametrize("count", [5, 8, 11, 20, 60])
def test_an_interval_holds_the_median_nine_times_in_ten(count):
    assert missed_frac(count) < 0.11


def test_a_few_rounds_give_their_range_and_one_gives_none():
    assert interval([4.0, 1.0, 2.0]) == pytest.approx((1.0, 4.0))
    found = with_interval("x", [4.0, 1.0, 2.0])
    assert found == {"x": pytest.approx(2.0), "x_interval": pytest.approx((1.0, 4.0))}
    assert with_interval("x", [3.0]) == {"x": pytest.approx(3.0)}
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


def runs_in_turns(draw, count, order):
    """Our rate over another engine's by round: each run at the pace of its moment, some stalled."""
    pace, found = 0.0, []

    def run_s():
        nonlocal pace
        pace += draw.gauss(0, 0.03)
        stall_s = draw.expovariate(5.0) if draw.random() < 0.1 else 0.0
        return math.exp(pace + draw.gauss(0, 0.08)) + stall_s

    for index in range(count):
        times_s = [run_s(), run_s()]
        ours_s, theirs_s = times_s if order(index) else reversed(times_s)
        found.append(theirs_s / ours_s)
    return found


def scatter(of_rounds, order, count=16, trials=600):
    """Of a ratio that is 1, from one run of the whole to the next."""
    draw = random.Random(7)
    logs = [math.log(of_rounds(runs_in_turns(draw, count, order))) for _ in range(trials)]
    return statistics.pstdev(logs)


def by_turns(index):
    return index % 2 == 0


def test_the_middle_scatters_less_than_a_median_on_a_machine_that_drifts_and_stalls():
    assert scatter(middle, by_turns) < 0.95 * scatter(statistics.median, by_turns)


def test_the_ratio_of_two_medians_scatters_far_more():
    """As where one engine has all of its runs before the other one begins."""

    def of_blocks(rounds):
        return statistics.median(rounds)

    def blocks(draw, count):
        pace, times = 0.0, []
        for _ in range(2 * count):
            pace += draw.gauss(0, 0.03)
            times.append(math.exp(pace + draw.gauss(0, 0.08)))
        return of_blocks(times[count:]) / of_blocks(times[:count])

    draw = random.Random(7)
    apart = statistics.pstdev(math.log(blocks(draw, 16)) for _ in range(600))
    assert scatter(middle, by_turns) < apart / 2


def test_rounds_that_are_taken_together_keep_their_middle():
    draw = random.Random(3)
    rounds = [draw.lognormvariate(0.5, 0.1) for _ in range(3000)]
    assert middle(rounds) == pytest.approx(statistics.median(rounds), rel=0.01)
    assert half_width_frac(rounds) < 0.005


def test_one_stall_does_not_move_it():
    assert middle([1.0] * 9 + [50.0]) == 1.0
