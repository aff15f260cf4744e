"""How the time of a suite is shared: each part has its share of what those before it have left.

A part that takes less than its share leaves the rest to those that come, one that takes more takes
it from them, and one that takes far more is cut off: a suite ends in time on any machine.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.suite import Part

MOST_STRETCH = 1.5  # times its share, after which a part is cut off
START_S = 8.0  # of a part that is told its minutes: imports before them, a last round behind them
LEAST_S = 10.0  # of any part: one that cannot even start says nothing
GRACE_S = 10.0  # that even the last part has beyond its share


@dataclass(frozen=True)
class Share:
    """Seconds that a part should take, and after how many it is cut off; infinite: no limit."""

    seconds: float
    most_s: float

    def minutes(self, part: Part) -> float | None:
        """What a part that measures for as long as it is told is told."""
        if math.isinf(self.seconds) or not part.stretches:
            return part.minutes
        return max(0.0, self.seconds - START_S) / 60


@dataclass(frozen=True)
class TimeLimit:
    """Until when all parts have to be done, and how long each took last."""

    end_s: float  # of the monotonic clock
    last_s: Mapping[str, float]  # by the name of a part

    def share(self, part: Part, later: Sequence[Part]) -> Share:
        """Of a part that is followed by `later`."""
        left_s = max(LEAST_S, self.end_s - time.monotonic())
        whole = sum(map(self.weight, (part, *later)))
        share_s = left_s * self.weight(part) / whole
        return Share(share_s, min(left_s, MOST_STRETCH * share_s) + GRACE_S)

    def weight(self, part: Part) -> float:
        """The seconds that a part took last, unless it takes as long as it is told."""
        return part.weight if part.stretches else self.last_s.get(part.name, part.weight)
