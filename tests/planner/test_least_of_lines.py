"""The least of the longest of several lines, against shares one by one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_offload.planner.choose.least_of_lines import Line, least_of_lines

SECONDS = st.floats(-5, 5)
LINES = st.lists(st.builds(Line, SECONDS, SECONDS), min_size=1, max_size=4)


def test_uploads_and_the_cpu_balance():
    assert least_of_lines([Line(6.0, 0.0), Line(0.0, 3.0)], 0.0, 1.0) == pytest.approx(2.0)


def test_as_far_as_there_is_something_to_share():
    assert least_of_lines([Line(6.0, 0.0), Line(0.0, 3.0)], 0.0, 0.5) == pytest.approx(3.0)


def test_from_where_there_is_no_choice():
    assert least_of_lines([Line(6.0, 0.0), Line(0.0, 3.0)], 0.8, 1.0) == pytest.approx(2.4)


@given(LINES, st.floats(0, 1))
def test_no_share_is_better(lines: list[Line], most: float) -> None:
    shares = [most * part / 64 for part in range(65)]
    found = min(max(line.at(share) for line in lines) for share in shares)
    assert least_of_lines(lines, 0.0, most) <= found + 1e-9
    assert least_of_lines(lines, 0.0, most) >= found - 10 * most / 64 - 1e-9  # the steepest slope
