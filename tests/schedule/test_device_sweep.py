"""Properties of the sweep over three tiers, simulated with random durations."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from lm_offload.planner.sweeps.timeline import Timeline, simulate
from lm_offload.schedule.device_sweep import DeviceSweepSchedule, Transfers
from lm_offload.schedule.task import Task, TaskId

SWEEPS = 3
HOMES = st.sampled_from(["device", "host", "disk"])
UNITS = st.lists(st.tuples(HOMES, st.integers(1, 30)), min_size=1, max_size=8)


def transfers_of(units, more_host=0, more_device=0) -> Transfers:
    read = {index: size for index, (home, size) in enumerate(units) if home == "disk"}
    upload = {index: size for index, (home, size) in enumerate(units) if home != "device"}
    rings = [max(sizes.values(), default=0) for sizes in (read, upload)]
    return Transfers(read, upload, rings[0] + more_host, rings[1] + more_device)


def schedule_of(*units_and_more) -> DeviceSweepSchedule:
    return DeviceSweepSchedule(transfers_of(*units_and_more))


def tasks_of(schedule: DeviceSweepSchedule, counts) -> list[Task]:
    """As the executor queues them."""
    tasks = schedule.transfers(0)
    for sweep in range(SWEEPS):
        tasks += schedule.transfers(sweep + 1) if sweep + 1 < SWEEPS else []
        tasks += schedule.computes(sweep, counts)
    return tasks


def spans(tasks, timeline: Timeline, kind: str, offset_of):
    """Each place of a ring with the time from its filling to its release."""
    for task in tasks:
        if task.id.kind == kind:
            until = "upload" if kind == "read" else "release"
            freed = timeline.ends_s[TaskId(task.id.sweep, until, task.id.unit)]
            start = offset_of(task)
            yield start, start + task.size_bytes, timeline.starts_s[task.id], freed


@settings(max_examples=40)
@given(
    UNITS, st.integers(0, 60), st.integers(0, 60),
    st.lists(st.integers(1, 3), min_size=8, max_size=8), st.randoms(use_true_random=False),
)  # fmt: skip
def test_no_place_is_overwritten_and_nothing_waits_for_ever(units, host, device, counts, random):
    tasks = tasks_of(schedule_of(units, host, device), counts[: len(units)])
    seconds = {task.id: random.random() for task in tasks}
    timeline = simulate(tasks, lambda task: seconds[task.id])  # raises where tasks are stuck
    assert len(timeline.ends_s) == len(tasks)
    for kind in ("read", "upload"):
        used = list(spans(tasks, timeline, kind, lambda task: task.ring_offset))
        for index, (start, stop, begin_s, end_s) in enumerate(used):
            for other, stop_other, begin_other, end_other in used[:index]:
                if other < stop and start < stop_other:
                    assert begin_s >= end_other or begin_other >= end_s


@given(UNITS, st.lists(st.integers(1, 3), min_size=8, max_size=8))
def test_every_unit_is_computed_after_its_upload_and_that_after_its_read(units, counts):
    tasks = tasks_of(schedule_of(units), counts[: len(units)])
    by_id = {task.id: task for task in tasks}
    for task in tasks:
        home = units[task.id.unit][0]
        upload = TaskId(task.id.sweep, "upload", task.id.unit)
        if task.id.kind == "compute":
            assert (upload in task.needs) == (home != "device")
            wanted = by_id[upload].ring_offset if home != "device" else -1
            assert task.ring_offset == wanted
        if task.id.kind == "upload":
            read = TaskId(task.id.sweep, "read", task.id.unit)
            assert (read in task.needs) == (home == "disk")
            assert task.source_offset == (by_id[read].ring_offset if home == "disk" else -1)


def test_nothing_is_transferred_where_all_is_on_the_device():
    tasks = tasks_of(schedule_of([("device", 5)] * 4), [1] * 4)
    assert {task.id.kind for task in tasks} == {"compute", "download"}
