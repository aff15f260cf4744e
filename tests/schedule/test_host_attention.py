"""Order and rings of sweeps in which the CPU attends beside a device."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_offload.planner.sweeps.timeline import simulate
from lm_offload.schedule.device_sweep import DeviceSweepSchedule, Transfers
from lm_offload.schedule.host_attention import most_rows
from tests.schedule.test_device_sweep import UNITS, spans, tasks_of, transfers_of


def simulated(tasks, seconds_of=lambda task: 1.0):
    """What comes back passes between the blocks of uploads, so it has a queue of its own."""
    moved = [
        replace(task, resource="d2h") if task.id.kind == "return_attended" else task
        for task in tasks
    ]
    return simulate(moved, seconds_of)


def order(ring_bytes: int) -> list[tuple[str, int, int]]:
    """Attention, MLP, attention, head: tasks of the device in two micro-batches."""
    transfers = Transfers({}, {0: 2, 1: 3, 2: 2}, 0, ring_bytes)
    schedule = DeviceSweepSchedule(transfers, frozenset({0, 2}))
    schedule.transfers(0)
    tasks = schedule.computes(0, [2, 2, 2, 1])
    computed = (task.id for task in tasks if task.resource == "gpu" and task.id.kind != "release")
    return [(it.kind[0], it.unit, it.micro_batch) for it in computed]


def test_micro_batches_take_turns_from_attention_to_attention():
    assert order(ring_bytes=10) == [
        *(("p", 0, 0), ("p", 0, 1)),
        *(("c", 0, 0), ("c", 1, 0), ("p", 2, 0)),
        *(("c", 0, 1), ("c", 1, 1), ("p", 2, 1)),
        *(("c", 2, 0), ("c", 2, 1), ("c", 3, 0)),
    ]


def test_a_small_ring_holds_one_unit_at_a_time():
    assert order(ring_bytes=9) == [
        *(("p", 0, 0), ("p", 0, 1), ("c", 0, 0), ("c", 0, 1), ("c", 1, 0), ("c", 1, 1)),
        *(("p", 2, 0), ("p", 2, 1), ("c", 2, 0), ("c", 2, 1), ("c", 3, 0)),
    ]


def test_the_cpu_attends_while_the_device_computes():
    units, counts = 8, [2] * 8
    nothing = Transfers({}, {}, 0, 0)
    schedule = DeviceSweepSchedule(nothing, frozenset(range(0, units, 2)))
    seconds = {"project": 0.5, "compute": 0.5, "attend": 1.4}
    timeline = simulated(tasks_of(schedule, counts), lambda task: seconds.get(task.id.kind, 0.0))
    assert timeline.busy_frac("cpu") > 0.8
    assert timeline.busy_frac("gpu") > 0.8


@settings(max_examples=60)
@given(
    UNITS, st.sets(st.integers(0, 7)), st.integers(0, 60), st.integers(0, 120),
    st.lists(st.integers(1, 3), min_size=8, max_size=8), st.randoms(use_true_random=False),
)  # fmt: skip
def test_no_place_is_overwritten_and_nothing_waits_for_ever(
    units, split, host, device, counts, random
):
    on_host = frozenset(unit for unit in split if unit < len(units))
    schedule = DeviceSweepSchedule(transfers_of(units, host, device), on_host)
    tasks = tasks_of(schedule, counts[: len(units)])
    assert len({task.id for task in tasks}) == len(tasks)
    seconds = {task.id: random.random() for task in tasks}
    timeline = simulated(tasks, lambda task: seconds[task.id])  # raises where tasks are stuck
    used = list(spans(tasks, timeline, "upload", lambda task: task.ring_offset))
    for index, (start, stop, begin_s, end_s) in enumerate(used):
        for other, stop_other, begin_other, end_other in used[:index]:
            if other < stop and start < stop_other:
                assert begin_s >= end_other or begin_other >= end_s
    for task in tasks:
        if task.id.kind == "compute" and task.id.unit in on_host:
            steps = ("project", "send_qkv", "attend", "return_attended", "compute")
            ids = [task.id._replace(kind=kind) for kind in steps]
            for first, then in pairwise(ids):
                assert timeline.ends_s[first] <= timeline.starts_s[then]


@pytest.mark.parametrize(("rows", "most", "wanted"), [(1, 8, 1), (7, 8, 4), (8, 2, 2), (0, 8, 1)])
def test_a_sweep_of_several_rows_has_several_micro_batches(rows, most, wanted):
    assert most_rows(rows, most) == wanted
