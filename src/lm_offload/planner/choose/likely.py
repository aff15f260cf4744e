"""What an option of a group will be estimated at, by its bound and by options that were tried.

Options with sweeps of as many rows differ in their micro-batches: in some products of prompts and
some memory, both of which their bounds count. So their estimates exceed their bounds by about the
same factor, where it is small. Weights are in memory by whole units, bounds count bytes: of U units
that is about 1/U.
"""

from __future__ import annotations

import math
from bisect import insort

from lm_offload.planner.choose.shortlist import Shortlist
from lm_offload.planner.costs.memory import Sizes

CLOSE = 1.2  # a bound that is further below an estimate leaves out what may decide


class LikelyEstimates:
    """The options of one group, of a model with so many `units`; tells who may enter `found`."""

    def __init__(self, found: Shortlist, units: int) -> None:
        self._found, self._unit_frac = found, 1 / units
        self._above: dict[tuple[int, int], float] = {}  # least factor, by rows and logits of sweeps
        self._tried_s: list[float] = []

    def note(self, sizes: Sizes, bound_s: float, estimate_s: float) -> None:
        """An option was tried; what has no place says nothing of those with fewer rows."""
        if estimate_s < math.inf:
            insort(self._tried_s, estimate_s)
        if estimate_s <= CLOSE * bound_s:
            rows = sizes.sweep_tokens, sizes.scored_rows
            self._above[rows] = min(estimate_s / bound_s, self._above.get(rows, math.inf))

    def may_win(self, sizes: Sizes, bound_s: float) -> bool:
        """Whether its estimate may be among the best of the group and of all."""
        factor = self._above.get((sizes.sweep_tokens, sizes.scored_rows))
        if factor is None:
            return True
        return bound_s * factor / (1 + self._unit_frac) < self._limit_s

    @property
    def _limit_s(self) -> float:
        limit_s, others = self._found.limit_s, self._found.of_a_kind - 1
        if len(self._tried_s) <= others:
            return limit_s
        return min(limit_s, self._tried_s[others] / self._found.missed)
