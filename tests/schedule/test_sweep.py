"""Properties of the task sequence, shown by running it on two imaginary resources."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from lm_offload.schedule.part_ring import parts_of
from lm_offload.schedule.sweep import SweepSchedule
from lm_offload.schedule.task import Task, TaskId

SWEEPS = 4


@dataclass
class Case:
    """Units by size (None is resident), the ring, micro-batches, and whose turn it is."""

    sizes: list[int | None]
    ring_bytes: int
    micro_batches: list[int]
    turns: list[bool]
    in_flight_bytes: int = 100

    @property
    def streamed(self) -> dict[int, int]:
        return {unit: size for unit, size in enumerate(self.sizes) if size is not None}

    def parts_of(self, size_bytes: int) -> tuple[int, ...]:
        return parts_of(size_bytes, self.in_flight_bytes)

    def schedule(self) -> SweepSchedule:
        return SweepSchedule(self.streamed, self.ring_bytes, self.in_flight_bytes)


@st.composite
def cases(draw):
    sizes = draw(st.lists(st.none() | st.integers(1, 30), min_size=1, max_size=9))
    ring_bytes = max((size for size in sizes if size), default=0) + draw(st.integers(0, 60))
    counts = draw(st.lists(st.integers(1, 3), min_size=len(sizes), max_size=len(sizes)))
    turns = draw(st.lists(st.booleans(), max_size=200))
    return Case(sizes, ring_bytes, counts, turns, draw(st.integers(1, 40)))


@dataclass
class TwoResources:
    """Runs tasks in program order on each resource, in any interleaving of the two."""

    sizes: list[int | None]
    done: list[TaskId] = field(default_factory=list)
    live: dict[tuple[int, int], list[range]] = field(default_factory=dict)  # parts of units

    def run(self, reads: deque[Task], cpu: deque[Task], turns: list[bool]) -> None:
        """Until the CPU has nothing left; `turns` says who goes first when both could."""
        turn = iter(turns)
        while cpu:
            first, second = (reads, cpu) if next(turn, True) else (cpu, reads)
            queue = next((q for q in (first, second) if q and self._ready(q[0])), None)
            assert queue is not None, f"deadlock: {cpu[0]} after {self.done}"
            self._do(queue.popleft())

    def forget(self, sweep: int) -> None:
        """What was read for a sweep that has not begun is read again."""
        self.done = [task for task in self.done if task.sweep < sweep]
        self.live = {key: place for key, place in self.live.items() if key[0] < sweep}

    def _ready(self, task: Task) -> bool:
        return all(need in self.done for need in task.needs)

    def _do(self, task: Task) -> None:
        key = (task.id.sweep, task.id.unit)
        if task.id.kind == "read" and task.ring_offset >= 0:
            start = task.ring_offset + task.unit_offset
            place = range(start, start + task.size_bytes)
            taken = [part for parts in self.live.values() for part in parts]
            assert all(place.stop <= other.start or other.stop <= place.start for other in taken)
            self.live.setdefault(key, []).append(place)
        if task.id.kind == "compute" and task.ring_offset >= 0:
            parts = sorted((part.start, part.stop) for part in self.live[key])
            starts, stops = zip(*parts, strict=True)
            assert starts == (task.ring_offset, *stops[:-1])
            assert stops[-1] - task.ring_offset == self.sizes[task.id.unit]
        if task.id.kind == "release":
            del self.live[key]
        self.done.append(task.id)


@given(cases())
def test_no_interleaving_overwrites_a_live_unit_or_blocks(case):
    schedule, machine = case.schedule(), TwoResources(case.sizes)
    reads = deque(schedule.reads(0))
    for sweep in range(SWEEPS):
        reads.extend(schedule.reads(sweep + 1))
        machine.run(reads, deque(schedule.computes(sweep, case.micro_batches)), case.turns)


@given(cases())
def test_needs_name_tasks_that_come_before(case):
    schedule, seen = case.schedule(), set()
    for sweep in range(SWEEPS):
        for task in schedule.reads(sweep):
            assert task.ring_offset + task.unit_offset + task.size_bytes <= case.ring_bytes
            assert all(need in seen or need.sweep == sweep for need in task.needs)
            assert all(need[0] < sweep or need.unit < task.id.unit for need in task.needs)
            seen.add(task.id)
        for task in schedule.computes(sweep, case.micro_batches):
            assert set(task.needs) <= seen
            seen.add(task.id)


@given(cases())
def test_reads_are_the_streamed_units_in_order_of_use(case):
    schedule = case.schedule()
    for sweep in range(SWEEPS):
        reads = schedule.reads(sweep)
        parts = [(u, size) for u, whole in case.streamed.items() for size in case.parts_of(whole)]
        assert sorted((task.id.unit, task.size_bytes) for task in reads) == sorted(parts)
        assert [task.id.unit for task in reads] == [unit for unit, _ in parts]
        computes = [t for t in schedule.computes(sweep, case.micro_batches) if t.ring_offset >= 0]
        assert {task.id.unit for task in computes} == case.streamed.keys()


@given(cases())
def test_every_unit_is_computed_once_for_each_micro_batch_in_order(case):
    schedule = case.schedule()
    schedule.reads(0)
    tasks = schedule.computes(0, case.micro_batches)
    computed = [(t.id.unit, t.id.micro_batch) for t in tasks if t.id.kind == "compute"]
    assert computed == [(u, m) for u, n in enumerate(case.micro_batches) for m in range(n)]


@given(st.lists(st.integers(1, 3), min_size=1, max_size=9))
def test_a_resident_sweep_is_a_plain_loop(counts):
    schedule = SweepSchedule({}, 0, 8)
    for sweep in range(SWEEPS):
        assert schedule.reads(sweep) == []
        kinds = {task.id.kind for task in schedule.computes(sweep, counts)}
        assert kinds == {"compute"}


def test_reads_of_the_next_sweep_need_only_releases_of_this_one():
    schedule = SweepSchedule({0: 10, 2: 10}, 20, 8)
    schedule.reads(0)
    list(schedule.computes(0, [1, 1, 1]))
    first, second = schedule.reads(1)
    assert first.needs == (TaskId(0, "release", 0),)
    assert second.needs == (TaskId(0, "release", 2),)


@given(cases(), st.data())
def test_units_that_are_joined_are_the_same_tasks_one_by_one(case, data):
    units = range(len(case.sizes))
    joined = data.draw(st.sets(st.sampled_from(units)))
    schedule = SweepSchedule(case.streamed, case.ring_bytes, case.in_flight_bytes, joined=joined)
    apart = case.schedule()
    for sweep in range(SWEEPS):
        assert schedule.reads(sweep) == apart.reads(sweep)
        tasks = list(schedule.computes(sweep, case.micro_batches))
        singles = [part for task in tasks for part in task.each()]
        wanted = list(apart.computes(sweep, case.micro_batches))
        assert [one.id for one in singles] == [one.id for one in wanted]
        for task in tasks:
            run = range(task.id.unit, task.id.unit + task.units)
            assert task.units == 1 or joined.issuperset(run)
            assert task.units == 1 or case.streamed.keys().isdisjoint(run)


def test_neighbours_in_memory_are_one_task_where_each_has_one_micro_batch():
    schedule = SweepSchedule({3: 10}, 10, 8, joined={1, 2, 3, 4, 5, 7})
    schedule.reads(0)

    def spans(counts: list[int]) -> list[tuple[int, int]]:
        tasks = schedule.computes(0, counts)
        return [(task.id.unit, task.units) for task in tasks if task.id.kind == "compute"]

    assert spans([1] * 9) == [(0, 1), (1, 2), (3, 1), (4, 2), (6, 1), (7, 1), (8, 1)]
    assert spans([1, 1, 1, 1, 2, 2, 1, 1, 1]) == [
        *((0, 1), (1, 2), (3, 1), (4, 1), (4, 1), (5, 1), (5, 1), (6, 1), (7, 1), (8, 1))
    ]


def test_each_of_several_units_needs_the_one_before():
    before = (TaskId(2, "compute", 0),)
    first, second, third = Task(TaskId(2, "compute", 1), "cpu", before, units=3).each()
    assert (first.id, first.needs, first.units) == (TaskId(2, "compute", 1), before, 1)
    assert (second.id, second.needs) == (TaskId(2, "compute", 2), (first.id,))
    assert (third.id, third.needs) == (TaskId(2, "compute", 3), (second.id,))
    assert [*third.each()] == [third]
