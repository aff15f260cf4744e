"""Properties of the KV tasks of a sweep, shown by running them on imaginary resources."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from lm_offload.schedule.kv_staging import Groups, KVGroup, StagedSweep
from lm_offload.schedule.sweep import SweepSchedule
from lm_offload.schedule.task import Task, TaskId

UNITS = 4


@st.composite
def groups_and_ring(draw):
    group = st.builds(
        KVGroup, st.integers(1, 9), st.integers(1, 3), st.integers(0, 2), st.integers(0, 2)
    )
    staged = st.lists(group, min_size=1, max_size=4)
    groups = draw(st.dictionaries(st.integers(0, UNITS - 1), staged))
    most = max((one.blocks for many in groups.values() for one in many), default=0)
    return groups, most + draw(st.integers(0, 12))


@dataclass
class Machine:
    """Runs what is ready, in the order of each resource; `live` is what the ring holds."""

    sizes: Groups
    done: set[TaskId] = field(default_factory=set)
    live: dict[tuple[int, int], range] = field(default_factory=dict)

    def run(self, queues: list[deque[Task]], turns: list[int]) -> None:
        turn = iter(turns)
        while any(queues):
            ready = [queue for queue in queues if queue and set(queue[0].needs) <= self.done]
            assert ready, f"deadlock at {[queue[0] for queue in queues if queue]}"
            self._do(ready[next(turn, 0) % len(ready)].popleft())

    def _do(self, task: Task) -> None:
        if task.kv_offset >= 0:
            self._touch(task)
        self.done.add(task.id)

    def _touch(self, task: Task) -> None:
        unit = task.id.unit
        part = task.id.micro_batch if task.id.kind != "compute" else self._part(task)
        if task.id.kind == "write_kv":
            del self.live[unit, part]
            return
        place = range(task.kv_offset, task.kv_offset + self.sizes[unit][part].blocks)
        others = [taken for key, taken in self.live.items() if key != (unit, part)]
        assert all(place.stop <= other.start or other.stop <= place.start for other in others)
        self.live[unit, part] = place

    def _part(self, task: Task) -> int:
        parts = [part for part, one in enumerate(self.sizes[task.id.unit]) for _ in range(one[1])]
        return parts[task.id.micro_batch]


@given(groups_and_ring(), st.lists(st.integers(0, 2), max_size=60))
def test_no_order_overwrites_what_is_staged_or_blocks(case, turns):
    groups, ring_blocks = case
    staged = StagedSweep(3, groups, ring_blocks)
    counts = [sum(group.computes for group in groups.get(unit, ())) or 1 for unit in range(UNITS)]
    tasks = list(staged.weave(SweepSchedule({}, 0, 8).computes(3, counts)))
    queues = [
        deque(staged.reads),
        deque(task for task in tasks if task.resource == "cpu"),
        deque(task for task in tasks if task.resource == "disk_write"),
    ]
    machine = Machine(groups)
    machine.run(queues, turns)
    assert set(staged.writes) <= machine.done
    assert not machine.live


@given(groups_and_ring())
def test_each_group_is_read_before_and_written_after_it_is_computed(case):
    groups, ring_blocks = case
    staged = StagedSweep(0, groups, ring_blocks)
    read = {(task.id.unit, task.id.micro_batch): task.size_bytes for task in staged.reads}
    assert read == {
        (unit, part): group.read_bytes
        for unit, many in groups.items()
        for part, group in enumerate(many)
        if group.read_bytes
    }
    assert len(staged.writes) == sum(map(len, groups.values()))


def test_nothing_is_added_where_all_is_in_memory():
    staged = StagedSweep(0, {}, 0)
    tasks = list(SweepSchedule({}, 0, 8).computes(0, [1, 2]))
    assert list(staged.weave(tasks)) == tasks
    assert (staged.reads, staged.writes) == ([], [])
