"""Predicted beside measured: where they part, and which resource is to blame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lm_offload.plan import Figures
from lm_offload.step_time import StepTime

TOLERANCE = 0.15  # of the predicted seconds of a sweep; more is told
PARTS = ("wait_s", "cpu_s", "overhead_s")  # of the seconds of a sweep, one after the other
AWAITED = ("disk_read_s", "h2d_s", "gpu_s", "attend_s")  # what the CPU may wait for


@dataclass(frozen=True)
class Deviation:
    """A phase that took longer or shorter than predicted, and the resource that is off most."""

    phase: str
    ratio: float  # measured over predicted seconds of a sweep
    resource: str  # a name of PARTS or AWAITED; wait_s: reads overlap less than predicted
    predicted_s: float
    measured_s: float


def step_seconds(step: StepTime) -> dict[str, float]:
    """Seconds of a sweep by resource, and in total."""
    return {
        name: getattr(step, name) for name in (*AWAITED, "cpu_s", "overhead_s", "wait_s", "total_s")
    }


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
    """The part of the sweep that differs most in the direction of the total, and what it is due to.

    Computing, waiting and the engine itself are parts of a sweep. What a resource works beside them
    matters only as far as it is waited for: reads of small models run ahead of their sweep.
    """
    before, after = step_seconds(expected), step_seconds(found)
    sign = 1 if found.total_s > expected.total_s else -1
    excess_s = {name: sign * (after[name] - before[name]) for name in before}
    part = max(PARTS, key=excess_s.__getitem__)
    if part != "wait_s":
        return part
    awaited = max(AWAITED, key=excess_s.__getitem__)
    return awaited if excess_s[awaited] > excess_s[part] / 4 else part
