"""A curve through points, and the same with other rates."""

from __future__ import annotations

import pytest

from lm_offload.hardware.curve import Curve, all_scaled

CURVE = Curve((1.0, 4.0), (10.0, 40.0))


def test_it_goes_through_its_points() -> None:
    assert Curve.through({1: 10.0, 4: 40.0}) == CURVE
    assert [CURVE.at(size) for size in (0.5, 4, 9)] == [10, 40, 40]
    assert CURVE.at(1) == pytest.approx(10)


def test_other_rates_lie_at_the_same_sizes() -> None:
    assert CURVE.mapped(lambda size, rate: rate + size) == Curve((1.0, 4.0), (11.0, 44.0))
    assert CURVE.scaled(0.5) == Curve((1.0, 4.0), (5.0, 20.0))
    assert all_scaled({"bf16": CURVE}, 2.0) == {"bf16": CURVE.scaled(2.0)}
