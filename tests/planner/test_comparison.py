"""Predicted beside measured, and the order of plans."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lm_offload.plan import Figures
from lm_offload.planner.reasons.comparison import Deviation, deviations, step_seconds
from lm_offload.planner.reasons.ranking import Ranking, ranking_of
from lm_offload.step_time import StepTime, mean_step

STEP = StepTime(total_s=1.0, cpu_s=0.3, wait_s=0.6, disk_read_s=0.9, read_bytes=10)
NONE = StepTime(0.0, 0.0, 0.0, 0.0, 0)


def figures(decode: StepTime, prefill: StepTime = STEP) -> Figures:
    return Figures(1.0, 1.0, 1.0, 1.0, 1.0, {"prefill": prefill, "decode": decode}, {})


@pytest.mark.parametrize(
    ("measured", "resource"),
    [
        (replace(STEP, total_s=1.5, disk_read_s=1.4, wait_s=1.1), "disk_read_s"),
        (replace(STEP, total_s=1.5, cpu_s=0.8), "cpu_s"),
        (replace(STEP, total_s=1.5, cpu_s=0.8, disk_read_s=2.9), "cpu_s"),  # nobody waits for it
        (replace(STEP, total_s=1.5, wait_s=1.1, cpu_s=0.3, gpu_s=0.5), "gpu_s"),
        (replace(STEP, total_s=1.5), "overhead_s"),
        (replace(STEP, total_s=1.5, wait_s=1.1), "wait_s"),
        (replace(STEP, total_s=0.5, disk_read_s=0.4, wait_s=0.1), "disk_read_s"),
    ],
)
def test_the_resource_that_is_off_is_named(measured: StepTime, resource: str) -> None:
    (found,) = deviations(figures(STEP), figures(measured))
    assert (found.phase, found.resource) == ("decode", resource)
    assert found.ratio == pytest.approx(measured.total_s)
    assert found.predicted_s == pytest.approx(step_seconds(STEP)[resource])
    assert found.measured_s == pytest.approx(step_seconds(measured)[resource])


def test_small_differences_and_missing_phases_are_not_told() -> None:
    near = replace(STEP, total_s=1.14, wait_s=0.74)
    assert list(deviations(figures(STEP), figures(near))) == []
    assert list(deviations(figures(NONE), figures(NONE))) == []


def test_every_phase_is_looked_at() -> None:
    slow = replace(STEP, total_s=2.0)
    found: list[Deviation] = list(deviations(figures(STEP), figures(slow, slow)))
    assert [deviation.phase for deviation in found] == ["prefill", "decode"]


def test_a_mean_counts_weights() -> None:
    assert mean_step([(STEP, 1), (NONE, 3)]) == StepTime(0.25, 0.075, 0.15, 0.225, 2.5)
    assert mean_step([]) == NONE


def test_pairs_in_the_wrong_order_and_what_the_choice_costs() -> None:
    assert ranking_of([1.0, 2.0, 3.0], [10.0, 20.0, 30.0]) == Ranking(3, 0, 0.0)
    assert ranking_of([1.0, 2.0, 3.0], [12.0, 10.0, 30.0]) == Ranking(3, 1, pytest.approx(0.2))
    assert ranking_of([1.0, 2.0], [10.0, 10.1]) == Ranking(0, 0, 0.0)  # measured the same
