"""List scheduling against timelines drawn by hand, and its bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_offload.planner.sweeps.timeline import simulate
from lm_offload.schedule.sweep import SweepSchedule
from lm_offload.schedule.task import Task, TaskId

RESOURCES = ("disk_read", "h2d", "gpu")


def task(unit: int, resource: str, *needs: int) -> Task:
    ids = tuple(TaskId(0, "compute", need) for need in needs)
    return Task(TaskId(0, "compute", unit), resource, ids)  # type: ignore[arg-type]


def seconds(*durations: float):
    return lambda placed: durations[placed.id.unit]


def spans(timeline) -> list[tuple[float, float]]:
    ordered = sorted(timeline.starts_s, key=lambda task_id: task_id.unit)
    return [(timeline.starts_s[task_id], timeline.ends_s[task_id]) for task_id in ordered]


def test_a_task_waits_for_its_resource_and_for_its_needs():
    tasks = [task(0, "h2d"), task(1, "gpu", 0), task(2, "h2d"), task(3, "gpu", 2)]
    timeline = simulate(tasks, seconds(1, 4, 2, 1))
    assert spans(timeline) == [(0, 1), (1, 5), (1, 3), (5, 6)]
    assert timeline.makespan_s == 6
    assert timeline.busy_s == {"h2d": 3, "gpu": 5}
    assert timeline.busy_frac("gpu") == pytest.approx(5 / 6)
    assert timeline.busy_frac("disk_read") == 0


def test_the_critical_path_has_no_gap():
    tasks = [task(0, "h2d"), task(1, "gpu", 0), task(2, "h2d"), task(3, "gpu", 2)]
    timeline = simulate(tasks, seconds(1, 1, 5, 1))
    assert [step.id.unit for step in timeline.critical_path()] == [0, 2, 3]


def test_a_need_may_be_given_later_on_another_resource():
    tasks = [task(0, "h2d", 2), task(1, "h2d"), task(2, "gpu")]
    assert spans(simulate(tasks, seconds(1, 1, 3))) == [(3, 4), (4, 5), (0, 3)]


@pytest.mark.parametrize(
    "tasks",
    [
        [task(0, "gpu", 9)],
        [task(0, "gpu", 1), task(1, "gpu")],
        [task(0, "gpu", 1), task(1, "h2d", 0)],
    ],
)
def test_waiting_for_ever_is_an_error(tasks):
    with pytest.raises(ValueError, match="never ends"):
        simulate(tasks, lambda _: 1.0)


def test_no_tasks_take_no_time():
    timeline = simulate([], lambda _: 1.0)
    assert timeline.makespan_s == 0
    assert timeline.critical_path() == ()
    assert timeline.busy_frac("cpu") == 0


@given(st.data())
def test_bounds_of_every_timeline(data):
    tasks = []
    for unit in range(data.draw(st.integers(1, 25))):
        needs = data.draw(st.sets(st.integers(0, unit - 1), max_size=3)) if unit else set()
        tasks.append(task(unit, data.draw(st.sampled_from(RESOURCES)), *needs))
    durations = data.draw(st.lists(st.floats(0, 10), min_size=len(tasks), max_size=len(tasks)))
    timeline = simulate(tasks, seconds(*durations))
    assert max(timeline.busy_s.values()) <= timeline.makespan_s + 1e-9
    assert timeline.makespan_s <= sum(durations) + 1e-9
    path_s = sum(durations[step.id.unit] for step in timeline.critical_path())
    assert path_s == pytest.approx(timeline.makespan_s)
    for placed in tasks:
        ready_s = max((timeline.ends_s[need] for need in placed.needs), default=0.0)
        assert timeline.starts_s[placed.id] >= ready_s


def test_the_executors_own_sweeps_can_be_timed():
    """Reads of the next sweep are queued before this one computes, and wait for its releases."""
    schedule = SweepSchedule({1: 100, 2: 100}, ring_bytes=100, in_flight_bytes=100)
    tasks = schedule.reads(0) + schedule.reads(1)
    for sweep in (0, 1):
        tasks += schedule.computes(sweep, [1, 1, 1])
    durations = {"read": 2.0, "compute": 1.0, "release": 0.0}
    timeline = simulate(tasks, lambda placed: durations[placed.id.kind])
    ends = [timeline.ends_s[TaskId(sweep, "compute", 2)] for sweep in (0, 1)]
    assert ends == [6, 12]  # read 2, compute 1, read 2, compute 1: the ring holds one unit
