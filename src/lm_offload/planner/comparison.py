"""Predicted beside measured: where they part, and which resource is to blame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lm_offload.plan import Figures
from lm_offload.step_time import StepTime

TOLERANCE = 0.15  # of the predicted seconds of a sweep; more is told
RESOURCES = ("disk_read_s", "h2d_s", "gpu_s", "attend_s", "cpu_s", "overhead_s")


@dataclass(frozen=True)
class Deviation:
    """A phase that took longer or shorter than predicted, and the resource that is off most."""

    phase: str
    ratio: float  # measured over predicted seconds of a sweep
    resource: str  # a name of RESOURCES, or wait_s: reads overlap less than predicted
    predicted_s: float
    measured_s: float


def step_seconds(step: StepTime) -> dict[str, float]:
    """Seconds of a sweep by resource, and in total."""
    return {name: getattr(step, name) for name in (*RESOURCES, "wait_s", "total_s")}


def deviations(predicted: Figures, measured: Figures) -> Iterator[Deviation]:
    """The phases whose mean sweep differs by more than TOLERANCE."""
    for phase, expected in predicted.step_s.items():
        found = measured.step_s[phase]
        if expected.total_s and found.total_s:
            ratio = found.total_s / expected.total_s
            if abs(ratio - 1) > TOLERANCE:
                resource = _most_off(expected, found)
                seconds = (step_seconds(step)[resource] for step in (expected, found))
                yield Deviation(phase, ratio, resource, *seconds)


def _most_off(expected: StepTime, found: StepTime) -> str:
    """The resource whose seconds differ most in the direction of the total."""
    before, after = step_seconds(expected), step_seconds(found)
    sign = 1 if found.total_s > expected.total_s else -1
    excess_s = {name: sign * (after[name] - before[name]) for name in RESOURCES}
    worst = max(RESOURCES, key=excess_s.__getitem__)
    explains = excess_s[worst] > abs(found.total_s - expected.total_s) / 4
    return worst if explains else "wait_s"
