"""Sweeps in which the CPU computes units where they lie, simulated with random durations."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from lm_offload.planner.sweeps.timeline import simulate
from lm_offload.schedule.device_sweep import DeviceSweepSchedule, Transfers
from lm_offload.schedule.in_place import NOTHING, InPlace
from lm_offload.schedule.task import TaskId
from tests.schedule.test_device_sweep import UNITS, spans, transfers_of

SWEEPS = 4


def tasks_of(schedule, counts, in_place):
    """As the executor queues them: what runs ahead is dropped where a sweep is of another kind."""
    tasks, queued = [], schedule.transfers(0)
    for sweep, units in enumerate(in_place):
        if units != (in_place[sweep - 1] if sweep else NOTHING):
            schedule.restart(sweep)
            end = TaskId(sweep - 1, "download", len(counts) - 1)
            needs = (end,) if sweep else ()
            moved = schedule.transfers(sweep, units)
            queued = [replace(task, needs=(*task.needs, *needs)) for task in moved]
        tasks += queued
        tasks += schedule.computes(sweep, counts, units)
        queued = schedule.transfers(sweep + 1, units)
    return tasks


def simulated(tasks, seconds_of=lambda task: 1.0):
    """Hidden states pass between the blocks of uploads, so they have a queue of their own."""
    back = ("return_attended", "upload_hidden")
    moved = [replace(task, resource="d2h") if task.id.kind in back else task for task in tasks]
    return simulate(moved, seconds_of)


@settings(max_examples=60)
@given(
    UNITS, st.sets(st.integers(0, 7)), st.sets(st.integers(0, 7)),
    st.lists(st.booleans(), min_size=SWEEPS, max_size=SWEEPS), st.integers(1, 3),
    st.integers(0, 120), st.randoms(use_true_random=False),
)  # fmt: skip
def test_no_place_is_overwritten_and_nothing_waits_for_ever(
    units, chosen, split, small, count, more, random
):
    last = len(units) - 1
    on_cpu = frozenset(it for it in chosen if it < last and units[it][0] == "host")
    on_host = frozenset(unit for unit in split if unit < last)
    schedule = DeviceSweepSchedule(transfers_of(units, more, more), on_host)
    counts = [count] * last + [1]
    in_place = [on_cpu if it else NOTHING for it in small]
    tasks = tasks_of(schedule, counts, in_place)
    assert len({task.id for task in tasks}) == len(tasks)
    seconds = {task.id: random.random() * (task.id.kind != "release") for task in tasks}
    timeline = simulated(tasks, lambda task: seconds[task.id])  # raises where tasks are stuck
    used = list(spans(tasks, timeline, "upload", lambda task: task.ring_offset))
    for index, (start, stop, begin_s, end_s) in enumerate(used):
        for other, stop_other, begin_other, end_other in used[:index]:
            if other < stop and start < stop_other:
                assert begin_s >= end_other or begin_other >= end_s
    computed = {task.id: task for task in tasks if task.id.kind == "compute"}
    for (sweep, _, unit, micro_batch), task in computed.items():
        assert task.resource == ("cpu" if unit in in_place[sweep] else "gpu")
        if unit:  # after the unit before it, wherever that was computed
            before = TaskId(sweep, "compute", unit - 1, micro_batch)
            assert timeline.ends_s[before] <= timeline.starts_s[task.id]
    moved = {task.id[:3] for task in tasks if task.id.kind == "upload"}
    for sweep, now in enumerate(in_place):
        assert not moved & {(sweep, "upload", unit) for unit in now}


def kinds_of(in_place, count=1):
    schedule = DeviceSweepSchedule(Transfers({}, {1: 2, 2: 2}, 0, 4))
    schedule.transfers(0, in_place)
    return [task.id[1:] for task in schedule.computes(0, [count] * 4 + [1], in_place)]


def test_attention_in_place_is_split_in_large_sweeps_alone():
    schedule = DeviceSweepSchedule(Transfers({}, {1: 2, 2: 2}, 0, 4), on_host=frozenset({1}))
    small, large = ([*schedule.computes(0, [1] * 4, it)] for it in (frozenset({1}), NOTHING))
    assert [task.id.kind for task in small if task.id.unit == 1] == [
        *("download_hidden", "compute", "upload_hidden"),
    ]
    assert [task.id.kind for task in large if task.id.unit == 1] == [
        *("project", "send_qkv", "attend", "return_attended", "compute"),
    ]


def test_units_that_follow_one_another_on_the_cpu_hand_nothing_over():
    assert kinds_of(frozenset({1, 2})) == [
        *(("compute", 0, 0), ("download_hidden", 1, 0), ("compute", 1, 0), ("compute", 2, 0)),
        *(("upload_hidden", 2, 0), ("compute", 3, 0), ("compute", 4, 0), ("download", 4, 0)),
    ]


def test_all_micro_batches_are_back_before_they_are_computed_together():
    schedule = DeviceSweepSchedule(Transfers({}, {1: 2}, 0, 2))
    tasks = [*schedule.computes(0, [2, 2, 1], frozenset({1}))]
    head = next(task for task in tasks if task.id.unit == 2 and task.id.kind == "compute")
    back = {TaskId(0, "upload_hidden", 1, micro_batch) for micro_batch in range(2)}
    assert back <= set(head.needs)


def test_the_cpu_computes_one_micro_batch_while_the_device_computes_another():
    schedule = DeviceSweepSchedule(Transfers({}, {}, 0, 0))
    in_place = frozenset(range(1, 15, 2))
    tasks = [*schedule.computes(0, [2] * 16, in_place)]
    timeline = simulated(tasks, lambda task: float(task.id.kind == "compute"))
    assert timeline.busy_frac("cpu") > 0.75
    assert timeline.busy_frac("gpu") > 0.75


def test_up_to_the_switch_point_units_are_in_place():
    in_place = InPlace(frozenset({3}), most_rows=4)
    assert [in_place.of(rows) for rows in (1, 4, 5)] == [{3}, {3}, NOTHING]
