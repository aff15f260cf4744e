"""Sweeps of prompts that a device attends to and the host stores."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_offload.planner.sweeps.timeline import simulate
from lm_offload.schedule.device_sweep import DeviceSweepSchedule, Transfers
from lm_offload.schedule.in_place import NOTHING
from lm_offload.schedule.task import TaskId

ON_HOST = frozenset({1, 3})


def tasks_of(micro_batches: int, uploaded: frozenset[int] = NOTHING):
    schedule = DeviceSweepSchedule(Transfers({}, dict.fromkeys(uploaded, 1), 0, 2), ON_HOST)
    counts = [micro_batches] * 5 + [1]
    tasks = schedule.transfers(0)
    return tasks, [*schedule.computes(0, counts, writes_back=True)]


@pytest.mark.parametrize("micro_batches", [1, 3])
def test_keys_and_values_leave_behind_each_compute_and_nothing_comes_back(micro_batches):
    _, tasks = tasks_of(micro_batches)
    kinds = [task.id.kind for task in tasks]
    assert kinds.count("send_qkv") == kinds.count("attend") == 2 * micro_batches
    assert not {"project", "return_attended"} & {*kinds}
    assert [task.resource for task in tasks if task.id.kind == "compute"] == ["gpu"] * (
        5 * micro_batches + 1
    )


@given(st.integers(1, 4), st.frozensets(st.integers(0, 5)), st.randoms(use_true_random=False))
def test_no_place_is_taken_before_it_is_stored(micro_batches, uploaded, random):
    transfers, tasks = tasks_of(micro_batches, uploaded)
    seconds = {task.id: random.random() for task in (*transfers, *tasks)}
    timeline = simulate([*transfers, *tasks], lambda task: seconds[task.id])
    for number in range(micro_batches):
        stored_s = timeline.ends_s[TaskId(0, "attend", 1, number)]
        assert timeline.starts_s[TaskId(0, "compute", 3, number)] >= stored_s
    last_s = max(timeline.ends_s[TaskId(0, "attend", 3, n)] for n in range(micro_batches))
    assert timeline.starts_s[TaskId(0, "download", 5)] >= last_s
