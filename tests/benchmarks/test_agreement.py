"""How far two runs agree, said in words."""

from __future__ import annotations

import pytest
from benchmarks.agreement import LISTED, Pair, agreement


@pytest.mark.parametrize(("ratio", "difference"), [(1.0, 0.0), (1.25, 0.25), (0.8, 0.25)])
def test_the_direction_of_a_difference_does_not_matter(ratio, difference):
    assert Pair("a", ratio).difference_frac == pytest.approx(difference)


def test_figures_within_five_per_cent_are_counted_and_the_worst_are_named():
    lines = list(agreement("ratios", [Pair("a", 1.04), Pair("b", 0.8), Pair("c", 1.1)]))
    assert lines == [
        "agreement of ratios: 1 of 3 within 5%, median difference 10.0%, largest 25.0%",
        "  25% apart: b is 0.80x",
        "  10% apart: c is 1.10x",
    ]


def test_a_long_list_is_cut():
    pairs = [Pair(str(index), 2.0) for index in range(LISTED + 3)]
    lines = list(agreement("ratios", pairs))
    assert lines[-1] == "  and 3 more"
    assert len(lines) == LISTED + 2


def test_nothing_is_said_of_no_figures():
    assert list(agreement("ratios", [])) == []
