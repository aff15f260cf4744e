"""Properties of the sweep over several devices, simulated with random durations."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_offload.planner.sweeps.timeline import Timeline, simulate
from lm_offload.schedule.stages import Stage, StagedSchedule, StagedTransfers, virtual_stages
from lm_offload.schedule.task import Task, TaskId

SWEEPS = 3
HOMES = st.sampled_from(["device", "host", "disk"])
UNITS = st.lists(st.tuples(HOMES, st.integers(1, 30)), min_size=2, max_size=8)
MORE = st.lists(st.integers(0, 60), min_size=4, max_size=4)


def schedule_of(units, cuts, more=(0,) * 5, devices=None) -> StagedSchedule:
    """Stretches that end at `cuts`, on so many devices in turn (default: each on its own).

    Rings are of their largest unit and as much more.
    """
    read = {index: size for index, (home, size) in enumerate(units) if home == "disk"}
    upload = {index: size for index, (home, size) in enumerate(units) if home != "device"}
    stretches = [range(*pair) for pair in pairwise([0, *cuts, len(units)])]
    devices = devices or len(stretches)
    stages = []
    for device, extra in zip(range(devices), more[1:], strict=False):
        own = [unit for stretch in stretches[device::devices] for unit in stretch]
        largest = max((upload.get(unit, 0) for unit in own), default=0)
        stages.append(Stage(own, largest + extra))
    ring_bytes = max(read.values(), default=0) + more[0]
    return StagedSchedule(stages, StagedTransfers(read, upload, ring_bytes))


def tasks_of(schedule: StagedSchedule, counts, sweeps=SWEEPS) -> list[Task]:
    """As the executor queues them."""
    tasks = schedule.transfers(0)
    for sweep in range(sweeps):
        tasks += schedule.transfers(sweep + 1) if sweep + 1 < sweeps else []
        tasks += schedule.computes(sweep, counts)
    return tasks


@st.composite
def scenes(draw):
    """A schedule with the homes and stages of its units, and counts of compute tasks."""
    units = draw(UNITS)
    cuts = draw(st.sets(st.integers(1, len(units) - 1), min_size=1, max_size=5))
    devices = draw(st.integers(2, min(len(cuts) + 1, 3)))
    schedule = schedule_of(units, sorted(cuts), draw(MORE), devices)
    last = len(units) - 1
    micro_batches = draw(st.integers(1, 4))
    single = last if draw(st.booleans()) and last not in cuts else len(units)
    return units, schedule, [micro_batches if unit < single else 1 for unit in range(len(units))]


def spans(tasks, timeline: Timeline, kind: str):
    """Each place of a ring with the time from its filling to its release."""
    until = "upload" if kind == "read" else "release"
    for task in tasks:
        if task.id.kind == kind:
            freed = timeline.ends_s[TaskId(task.id.sweep, until, task.id.unit)]
            place = range(task.ring_offset, task.ring_offset + task.size_bytes)
            yield task.resource, place, timeline.starts_s[task.id], freed


@settings(max_examples=60)
@given(scenes(), st.randoms(use_true_random=False))
def test_no_place_is_overwritten_and_nothing_waits_for_ever(scene, random):
    _, schedule, counts = scene
    tasks = tasks_of(schedule, counts)
    seconds = {task.id: random.random() for task in tasks}
    timeline = simulate(tasks, lambda task: seconds[task.id])  # raises where tasks are stuck
    assert len(timeline.ends_s) == len(tasks)
    used = [*spans(tasks, timeline, "read"), *spans(tasks, timeline, "upload")]
    for index, (ring, place, begin_s, end_s) in enumerate(used):
        for other_ring, other, begin_other, end_other in used[:index]:
            overlap = max(place.start, other.start) < min(place.stop, other.stop)
            if ring == other_ring and overlap:
                assert begin_s >= end_other or begin_other >= end_s


@given(scenes())
def test_each_micro_batch_passes_each_unit_once_and_in_order(scene):
    units, schedule, counts = scene
    tasks = tasks_of(schedule, counts)
    timeline = simulate(tasks, lambda task: 1.0)
    computes = Counter(task.id for task in tasks if task.id.kind == "compute")
    assert computes == Counter(
        TaskId(sweep, "compute", unit, micro_batch)
        for sweep in range(SWEEPS)
        for unit, count in enumerate(counts)
        for micro_batch in range(count)
    )
    for sweep, unit in ((sweep, unit) for sweep in range(SWEEPS) for unit in range(1, len(units))):
        for micro_batch in range(counts[unit]):
            after = timeline.starts_s[TaskId(sweep, "compute", unit, micro_batch)]
            before = TaskId(sweep, "compute", unit - 1, micro_batch)
            assert after >= timeline.ends_s[before]
        if sweep:
            first = TaskId(sweep, "compute", 0)
            download = TaskId(sweep - 1, "download", len(units) - 1)
            assert timeline.starts_s[first] >= timeline.ends_s[download]


@given(scenes())
def test_weights_are_there_and_rows_come_from_the_device_before(scene):
    units, schedule, counts = scene
    tasks = tasks_of(schedule, counts)
    by_id = {task.id: task for task in tasks}
    stage_of = {unit: n for n, stage in enumerate(schedule.stages) for unit in stage.units}
    for task in tasks:
        sweep, kind, unit, micro_batch = task.id
        home, number = units[unit][0], stage_of[unit]
        upload, read = TaskId(sweep, "upload", unit), TaskId(sweep, "read", unit)
        if kind == "compute":
            assert task.resource == f"gpu{number}"
            assert (upload in task.needs) == (home != "device")
            assert task.ring_offset == (by_id[upload].ring_offset if home != "device" else -1)
            begins = unit in {it.units[0] for it in virtual_stages(schedule.stages)[1:]}
            assert (TaskId(sweep, "send_hidden", unit - 1, micro_batch) in task.needs) == begins
        if kind == "upload":
            assert task.resource == f"h2d{number}"
            assert (read in task.needs) == (home == "disk")
            assert task.source_offset == (by_id[read].ring_offset if home == "disk" else -1)


@pytest.mark.parametrize("stages", [2, 3, 4])
def test_stages_with_many_micro_batches_work_at_the_same_time(stages):
    units, count = [("device", 1)] * 12, 32
    cuts = [12 * stage // stages for stage in range(1, stages)]

    def sweep_s(schedule: StagedSchedule) -> float:
        tasks = tasks_of(schedule, [count] * 12, sweeps=1)
        return simulate(tasks, lambda task: float(task.id.kind == "compute")).makespan_s

    together_s, alone_s = sweep_s(schedule_of(units, cuts)), sweep_s(schedule_of(units, []))
    assert alone_s == 12 * count
    assert alone_s / together_s == pytest.approx(stages * count / (count + stages - 1))


def test_weights_that_fit_the_ring_together_do_not_hold_up_the_next_stage():
    units = [("host", 10)] * 8

    def sweep_s(ring_more: int) -> float:
        schedule = schedule_of(units, [4], (0, ring_more, ring_more))
        tasks = tasks_of(schedule, [8] * 8, sweeps=1)
        return simulate(tasks, lambda task: float(task.id.kind == "compute")).makespan_s

    assert sweep_s(40) == 4 * (8 + 1)  # all four units of a stage: it hands on after each row
    assert sweep_s(0) > 1.5 * sweep_s(40)  # one after the other: after the last unit


def uploading_s(schedule: StagedSchedule, units: int, count: int, computing: float) -> float:
    """Of ten sweeps whose uploads take a second each."""
    kinds = {"upload": 1.0, "compute": computing / count}
    tasks = tasks_of(schedule, [count] * units, sweeps=10)
    return simulate(tasks, lambda task: kinds.get(task.id.kind, 0.0)).makespan_s / 10


@pytest.mark.parametrize("devices", [2, 3])
def test_devices_in_turn_upload_at_the_same_time(devices):
    units, rings = [("host", 10)] * 12, (0, *[20] * devices)
    cuts = [12 * device // devices for device in range(1, devices)]
    alone_s = uploading_s(schedule_of(units, [], rings), 12, 1, 0.01)
    stretches_s = uploading_s(schedule_of(units, cuts, rings), 12, 1, 0.01)
    in_turn_s = uploading_s(schedule_of(units, range(1, 12), rings, devices), 12, 1, 0.01)
    assert alone_s == pytest.approx(12, rel=0.1)
    assert stretches_s > 0.7 * alone_s * (1 - 3 * (devices - 1) / 12)  # but for what rings hold
    assert in_turn_s == pytest.approx(12 / devices, rel=0.1)


def test_devices_in_turn_compute_at_the_same_time_while_weights_are_uploaded():
    units, rings = [("host", 10)] * 12, (0, 20, 20)
    stretches_s = uploading_s(schedule_of(units, [6], rings), 12, 4, 1.0)
    in_turn_s = uploading_s(schedule_of(units, range(1, 12), rings, 2), 12, 4, 1.0)
    assert in_turn_s == pytest.approx(6, rel=0.15)  # half of 12 seconds of computes
    assert stretches_s > 1.4 * in_turn_s


def test_stretches_are_ordered_by_units():
    stages = [Stage((0, 1, 4), 0), Stage((2, 3, 5), 0)]
    assert virtual_stages(stages) == [(0, [0, 1]), (1, [2, 3]), (0, [4]), (1, [5])]


def test_nothing_is_transferred_where_all_is_on_the_devices():
    tasks = tasks_of(schedule_of([("device", 5)] * 4, [2]), [1] * 4)
    assert {task.id.kind for task in tasks} == {"compute", "send_hidden", "download"}
