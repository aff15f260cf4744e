"""Stages that others disturb are noticed, and measured again as far as there is time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from lm_offload.hardware.clock import LEAST_LEFT, SHARES, Clock
from lm_offload.hardware.profile_notes import disturbance_note
from lm_offload.hardware.watch import MOST_RATIO, Watch, watch_with
from lm_offload.kernels.resolve import resolve_kernels
from tests.hardware.profiles import TINY_EFFORT
from tests.hardware.test_profile_store import PROFILE
from tests.hardware.watches import Machine

EFFORT = replace(TINY_EFFORT, seconds=100.0)


def seen(machine: Machine, watch: Watch, during: Callable[[], None]) -> float:
    """How disturbed a stage of ten seconds is in which something happens."""
    watch.begin()
    during()
    machine.now_s += 10.0
    stage = watch.end()
    watch.keep(stage)
    return watch.disturbance(stage)


@pytest.mark.parametrize(
    ("busy_frac", "pulse_s", "disturbed"),
    [
        (0.0, 1.0, False),
        (0.05, 1.0, False),  # as a system is by itself
        (0.2, 1.0, True),
        (0.0, 0.9 * MOST_RATIO, False),
        (0.0, 1.1 * MOST_RATIO, True),
    ],
)
def test_work_of_others_and_a_slower_pulse_disturb(busy_frac, pulse_s, disturbed):
    machine = Machine()
    watch = machine.watch()

    def happen() -> None:
        machine.busy_frac, machine.pulse_s = busy_frac, pulse_s

    assert (seen(machine, watch, happen) > 1) is disturbed
    assert watch.disturbed_frac == float(disturbed)


def test_a_disturbance_that_ends_within_a_stage_is_seen_by_the_pulse_before_it():
    machine = Machine(pulse_s=2.0)
    watch = machine.watch()
    assert seen(machine, watch, lambda: setattr(machine, "pulse_s", 1.0)) > 1
    assert seen(machine, watch, lambda: None) <= 1
    assert watch.disturbed_frac == 0.5


def test_a_pace_that_was_slow_from_the_start_is_told_when_it_is_over():
    machine = Machine(pulse_s=2.0)
    watch = machine.watch()
    assert seen(machine, watch, lambda: None) <= 1
    machine.pulse_s = 1.0
    assert seen(machine, watch, lambda: None) <= 1
    assert watch.disturbed_frac == 0.5


def test_a_few_ticks_of_a_short_stage_are_no_disturbance():
    machine = Machine(busy_frac=0.5)
    watch = machine.watch()
    watch.begin()
    machine.now_s += 0.01
    assert watch.disturbance(watch.end()) <= 1


class Stages:
    """Stages of a calibration, of which the given measurements are disturbed."""

    def __init__(self, *disturbed: int) -> None:
        self.machine, self.budgets_s, self.reports = Machine(), list[float](), list[str]()
        self._disturbed = disturbed
        self.clock = Clock(EFFORT, self._report, self.machine.watch())

    def _report(self, stage: str, done_s: float, total_s: float) -> None:
        assert 0 <= done_s < total_s == EFFORT.seconds
        self.reports.append(stage)

    def measure(self, stage: str) -> int:
        """The number of the measurement that counts."""
        return self.clock.watched(stage, self._measured)

    def _measured(self, budget_s: float) -> int:
        number = len(self.budgets_s)
        self.machine.busy_frac = 0.5 if number in self._disturbed else 0.0
        self.machine.now_s += budget_s
        self.budgets_s.append(budget_s)
        return number


def test_a_disturbed_stage_is_measured_again_in_the_time_of_later_ones():
    stages = Stages(0)
    assert stages.measure("attention") == 1
    assert stages.measure("other kernels") == 2
    assert stages.reports == ["attention", "attention again", "other kernels"]
    assert stages.clock.disturbed_frac == 0.0
    planned_s = SHARES["other kernels"] * EFFORT.seconds
    assert LEAST_LEFT * planned_s < stages.budgets_s[-1] < planned_s
    for stage in (name for name in SHARES if name not in ("attention", "other kernels")):
        stages.measure(stage)
    assert sum(stages.budgets_s) == pytest.approx(sum(SHARES.values()) * EFFORT.seconds, rel=0.03)


def test_of_two_disturbed_measurements_the_less_disturbed_counts_and_is_told():
    stages = Stages(0, 1)
    assert stages.measure("attention") == 0  # the second is no better
    assert stages.measure("other kernels") == 2
    share = SHARES["attention"] / (SHARES["attention"] + SHARES["other kernels"])
    assert stages.clock.disturbed_frac == pytest.approx(share, rel=0.05)


def test_nothing_is_measured_again_that_leaves_too_little_to_later_stages():
    stages = Stages(*range(100))
    for _ in range(3):
        stages.measure("products")
    assert len(stages.budgets_s) < 6
    assert stages.clock.disturbed_frac == 1.0


def test_a_disturbed_profile_says_so_and_a_quiet_one_does_not():
    assert disturbance_note(replace(PROFILE, disturbed_frac=0.05)) is None
    note = disturbance_note(replace(PROFILE, disturbed_frac=0.3))
    assert note is not None
    assert "30%" in note
    assert "lm-offload profile" in note


def test_the_pulse_of_this_machine_takes_some_time():
    watch = watch_with(resolve_kernels(1))
    stage = watch.end()
    assert stage.pulse_s > 0
