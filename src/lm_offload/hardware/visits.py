"""What is measured at several moments of a calibration, of which the typical one counts.

The pace of a shared machine, and most of all that of its disk, moves within minutes: one moment of
a calibration would be taken for all later ones.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Generic

from lm_offload.hardware.timing import Deadline, Key, typical

Report = Callable[[str, float, float], None]  # what comes next; planned seconds behind, and in all


def unreported(stage: str, done_s: float, total_s: float) -> None:
    """A report that nobody wants to see."""


def spread_over(report: Report, visit: Callable[[], None], count: int) -> Report:
    """`report`, and `count` visits before stages, in equal parts of the seconds still planned.

    The first comes with the next stage; one more is left to be made when all else is done.
    """
    begun_s: list[float] = []  # the stages at which visits were made

    def visit_and_report(stage: str, done_s: float, total_s: float) -> None:
        start_s, made = (begun_s[0] if begun_s else done_s), len(begun_s)
        part_s = (total_s - start_s) / (count + 1)
        if made < count and done_s >= start_s + made * part_s:
            visit()
            begun_s.append(done_s)
        report(stage, done_s, total_s)

    return visit_and_report


class Visited(Generic[Key]):
    """Samplers that are asked at each visit, in turns, for `visit_s` together."""

    def __init__(self, samplers: Mapping[Key, Callable[[], float]], visit_s: float) -> None:
        self._samplers = samplers
        self._visit_s = visit_s
        self._seen: dict[Key, list[float]] = defaultdict(list)

    def visit(self) -> None:
        """Sample each at least once."""
        for key, value in typical(self._samplers, Deadline(self._visit_s)).items():
            self._seen[key].append(value)

    @property
    def typical(self) -> dict[Key, float]:
        """The median of what was typical of the visits, of which there was one at least."""
        return {key: statistics.median(self._seen[key]) for key in self._samplers}
