"""When a calibration is interrupted, and what is made of what was seen then."""

from __future__ import annotations

import pytest

from lm_offload.hardware.visits import Visited, spread_over

STAGES_S = (2.0, 3.0, 4.0, 6.0, 6.5, 9.0)  # planned seconds behind, of 10


@pytest.mark.parametrize(
    ("count", "before"),
    [(0, []), (1, [2.0]), (3, [2.0, 4.0, 6.0]), (7, [2.0, 3.0, 4.0, 6.0, 6.5, 9.0])],
)
def test_visits_are_spread_over_the_stages_that_are_left(count: int, before: list[float]) -> None:
    made, reported = list[float](), list[str]()
    report = spread_over(
        lambda stage, *_: reported.append(stage), lambda: made.append(now_s), count
    )
    for now_s in STAGES_S:
        report(str(now_s), now_s, 10.0)
    assert made == before
    assert reported == [*map(str, STAGES_S)]


def test_what_is_typical_is_the_median_of_visits() -> None:
    values = iter((9.0, 1.0, 3.0))
    visited = Visited({"a": lambda: next(values), "b": lambda: 2.0}, 0.0)
    for _ in range(3):
        visited.visit()
    assert visited.typical == {"a": 3.0, "b": 2.0}
