"""How the time of a calibration is shared out; what was disturbed is measured once more."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from lm_offload.hardware.effort import Effort
from lm_offload.hardware.visits import Report, spread_over
from lm_offload.hardware.watch import Watch

SHARES = {
    "disk writes": 0.1,
    "disk reads": 0.18,
    "memory": 0.05,
    "cache": 0.03,
    "products": 0.3,
    "attention": 0.13,
    "other kernels": 0.05,
    "quantizing": 0.02,
    "recurrent states": 0.01,
    "threads": 0.05,
    "interference": 0.1,
}
LEAST_LEFT = 0.7  # of the planned time, for stages after one that is measured again

Found = TypeVar("Found")


class Clock:
    """Gives each stage its seconds and reports how far the whole is."""

    def __init__(self, effort: Effort, report: Report, watch: Watch) -> None:
        self._total_s = effort.seconds
        self._planned_s = 0.0  # of the stages so far
        self._done_s = 0.0  # the same with those that were measured again
        self._report = report
        self._watch = watch

    def visit_between(self, visit: Callable[[], None], count: int) -> None:
        """Have so many visits made before the stages to come, spread over them."""
        self._report = spread_over(self._report, visit, count)

    def budget_s(self, stage: str, detail: str = "", parts: int = 1) -> float:
        """Seconds of a stage of SHARES, or of one of its equal parts, which begins now."""
        self._report(f"{stage} {detail}".rstrip(), self._done_s, self._total_s)
        planned_s = SHARES[stage] * self._total_s / parts
        seconds = planned_s * self._left_frac
        self._planned_s += planned_s
        self._done_s += seconds
        return seconds

    def watched(
        self, stage: str, measure: Callable[[float], Found], detail: str = "", parts: int = 1
    ) -> Found:
        """What `measure` finds in the seconds of a stage, or of one of its equal parts.

        If that was disturbed it is measured once more, as long as later stages can spare the time.
        """
        budget_s = self.budget_s(stage, detail, parts)
        self._watch.begin()
        found, first = measure(budget_s), self._watch.end()
        if self._watch.disturbance(first) <= 1 or not self._can_spare(budget_s):
            self._watch.keep(first)
            return found
        self._report(f"{stage} again", self._done_s, self._total_s)
        self._done_s += budget_s
        self._watch.begin()
        again, second = measure(budget_s), self._watch.end()
        better = self._watch.disturbance(second) < self._watch.disturbance(first)
        self._watch.keep(second if better else first)
        return again if better else found

    @property
    def disturbed_frac(self) -> float:
        """The share of the time of watched stages in which one was disturbed, once more too."""
        return self._watch.disturbed_frac

    @property
    def _left_frac(self) -> float:
        """Of what is planned for a stage."""
        planned_s = self._total_s - self._planned_s
        return (self._total_s - self._done_s) / planned_s if planned_s > 0 else 1.0

    def _can_spare(self, seconds: float) -> bool:
        left_s = self._total_s - self._done_s - seconds
        return left_s >= LEAST_LEFT * (self._total_s - self._planned_s)
