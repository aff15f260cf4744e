from __future__ import annotations

from dataclasses import replace

import pytest

from lm_offload.planner.choose.likely import CLOSE, LikelyEstimates
from lm_offload.planner.choose.shortlist import Shortlist
from lm_offload.planner.costs.memory import Sizes

SIZES = Sizes(8, 4, 128, 64)
LONGER = replace(SIZES, sweep_tokens=256)
UNITS = 1000


@pytest.fixture
def likely():
    """Of a search that keeps two of a kind and knows a plan of 2 s."""
    return LikelyEstimates(Shortlist(16, 1.0, 2.0), UNITS)


def test_nothing_is_known_before_an_option_was_tried(likely):
    assert likely.may_win(SIZES, 1.99)


def test_what_exceeds_its_bound_by_as_much_as_others_is_left_out(likely):
    likely.note(SIZES, 1.0, 1.1)
    assert likely.may_win(SIZES, 1.8)  # 1.98 s
    assert not likely.may_win(SIZES, 1.83)  # 2.01 s
    assert likely.may_win(LONGER, 1.83)


def test_two_of_a_group_are_enough(likely):
    likely.note(SIZES, 1.0, 1.1)
    likely.note(SIZES, 1.0, 1.2)
    assert likely.may_win(SIZES, 1.08)
    assert not likely.may_win(SIZES, 1.1)


def test_one_is_enough_where_one_is_wanted():
    likely = LikelyEstimates(Shortlist(1, 1.0), UNITS)
    likely.note(SIZES, 1.0, 1.1)
    assert likely.may_win(SIZES, 0.99)
    assert not likely.may_win(SIZES, 1.01)


def test_of_few_units_one_may_decide():
    likely = LikelyEstimates(Shortlist(1, 1.0), units=10)
    likely.note(SIZES, 1.0, 1.1)
    assert likely.may_win(SIZES, 1.05)


@pytest.mark.parametrize("estimate_s", [1.01 * CLOSE, float("inf")])
def test_a_bound_far_below_says_nothing(likely, estimate_s):
    likely.note(SIZES, 1.0, estimate_s)
    assert likely.may_win(SIZES, 1.99)
