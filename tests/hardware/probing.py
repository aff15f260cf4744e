"""What tests of probes share: little time, and what a planner can work with."""

from __future__ import annotations

import math
from collections.abc import Iterable

from lm_offload.hardware.curve import Curve

BUDGET_S = 0.01


def check(curves: Iterable[Curve]) -> None:
    """Rates that a planner can work with."""
    for curve in curves:
        assert curve.sizes == tuple(sorted(set(curve.sizes)))
        assert len(curve.sizes) == len(curve.rates) > 0
        assert all(math.isfinite(rate) and rate > 0 for rate in curve.rates)
