"""Attention on the CPU beside a device: nothing is counted twice, and it hides what it can."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lm_offload.planner.sweeps.host_load import HostLoad
from lm_offload.schedule.host_attention import after_projection, before_rest
from lm_offload.schedule.task import Task, TaskId

DEVICE_S = 6.0
LOAD = HostLoad(
    most_rows=4, counts=[2, 2, 1], attend=[8.0, 0.0, 0.0], project_frac=0.75, down_s=0.2, up_s=0.1
)


def seconds(kind: str, unit: int = 0) -> float:
    return LOAD.task_s(Task(TaskId(0, kind, unit), "gpu", ()), DEVICE_S)


def test_the_tasks_of_a_unit_take_what_the_unit_takes():
    assert 2 * (seconds("project") + seconds("compute")) == pytest.approx(DEVICE_S)
    assert seconds("project") == 3 * seconds("compute")
    assert 2 * seconds("attend") == LOAD.attend_s
    assert 2 * seconds("compute", unit=1) == seconds("compute", unit=2) == DEVICE_S


def test_the_tasks_between_the_halves_have_seconds_of_their_own():
    first = TaskId(0, "project", 0)
    between = [*after_projection(first), before_rest(first._replace(kind="compute"))]
    assert [LOAD.task_s(task, DEVICE_S) for task in between] == [0.2, 4.0, 0.1]


@pytest.mark.parametrize(
    ("device_s", "tasks", "wanted"),
    [(6.0, 2, 8.0), (20.0, 2, 20.0), (8.0, 2, 8.3), (6.0, 1, 14.3), (6.0, 4, 8.0)],
)
def test_the_slower_side_counts_unless_there_is_nothing_to_do_beside(device_s, tasks, wanted):
    load = replace(LOAD, counts=[tasks, tasks, 1])
    assert load.steady_s(device_s, 0.0) == pytest.approx(wanted)
