"""Experts that a router chose: read once it has, computed in order, nothing else of them done."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from lm_offload.schedule.on_demand import OnDemand
from lm_offload.schedule.sweep import SweepSchedule
from lm_offload.schedule.task import Task, TaskId

EXPERTS, SIZE, RING_START = 4, 10, 100
LAYER = ("attention", "router", *["expert"] * EXPERTS)


@dataclass
class Mixture:
    """Layers of attention, router and experts; `choices` of each sweep and layer, in order."""

    layers: int
    streamed: frozenset[int]
    ring_units: int
    choices: list[list[frozenset[int]]]
    asked: list[frozenset[int]] = field(default_factory=list)
    homes: dict[int, int] = field(default_factory=dict)  # unit -> number of the home it has
    lying: dict[int, int] = field(default_factory=dict)  # home -> unit whose bytes are there
    found: list[frozenset[int]] = field(default_factory=list)  # in memory when a router was asked

    @property
    def kinds(self) -> list[str]:
        return [*LAYER * self.layers]

    def experts_of(self, router: int) -> range:
        return range(router + 1, router + 1 + EXPERTS)

    def schedule(self) -> SweepSchedule:
        always = {unit: SIZE for unit in self.streamed if self.kinds[unit] != "expert"}
        return SweepSchedule(always, RING_START, SIZE, self.on_demand())

    def on_demand(self) -> OnDemand:
        routers = [unit for unit, kind in enumerate(self.kinds) if kind == "router"]
        coming = deque(chosen for sweep in self.choices for chosen in sweep)

        def chosen() -> frozenset[int]:
            self.asked.append(coming.popleft())
            self.found.append(frozenset(self.lying.values()))
            return self.asked[-1]

        def take_home(unit: int, owner: int) -> None:
            self.homes[unit] = self.homes.pop(owner)

        units = [unit for unit, kind in enumerate(self.kinds) if kind == "expert"]
        self.homes = {unit: at for at, unit in enumerate(units) if unit not in self.streamed}
        self.lying = {home: unit for unit, home in self.homes.items()}
        ring = range(RING_START, RING_START + self.ring_units * SIZE)
        return OnDemand(
            {it: self.experts_of(it) for it in routers},
            dict.fromkeys(units, SIZE),
            list(self.homes),
            ring,
            chosen,
            take_home,
        )


@st.composite
def mixtures(draw: st.DrawFn) -> Mixture:
    layers, sweeps = draw(st.integers(1, 3)), draw(st.integers(1, 5))
    choices = st.frozensets(st.integers(0, EXPERTS - 1), min_size=1)
    return Mixture(
        layers,
        draw(st.frozensets(st.integers(0, layers * len(LAYER) - 1))),
        draw(st.integers(1, 6)),
        [[draw(choices) for _ in range(layers)] for _ in range(sweeps)],
    )


class Machine:
    """Does tasks as early as their needs allow, reads first or last; keeps who lies where."""

    def __init__(self, mixture: Mixture, reads_first: bool) -> None:
        self._mixture = mixture
        self.done: set[TaskId] = set()
        self.order: list[Task] = []
        self.held: dict[int, TaskId] = {}  # byte of the ring for experts -> its read
        self._waiting: list[Task] = []
        self._reads_first = reads_first

    def run(self, tasks: list[Task] | deque[Task], computes) -> None:
        self._waiting += tasks
        for task in computes:
            if task.resource == "disk_read":
                self._waiting.append(task)
                continue
            while not set(task.needs) <= self.done:
                assert self._read_one(), f"deadlock at {task.id}"
            self._do(task)
            while self._reads_first and self._read_one():
                pass

    def _read_one(self) -> bool:
        for task in self._waiting:
            if set(task.needs) <= self.done:
                self._waiting.remove(task)
                self._do(task)
                return True
        return False

    def _do(self, task: Task) -> None:
        self.done.add(task.id)
        self.order.append(task)
        if task.ring_offset < 0:
            self._do_in_home(task)
        span = range(task.ring_offset, task.ring_offset + SIZE)
        if task.id.kind == "read_expert" and task.ring_offset >= 0:
            assert not any(self.held.get(byte) for byte in span)
            self.held.update(dict.fromkeys(span, task.id))
        if task.id.kind == "compute" and task.ring_offset >= RING_START:
            wanted = task.id._replace(kind="read_expert")
            assert all(self.held.get(byte) == wanted for byte in span)
        if task.id.kind == "release":
            freed = task.id._replace(kind="read_expert")
            for byte in [byte for byte, owner in self.held.items() if owner == freed]:
                del self.held[byte]

    def _do_in_home(self, task: Task) -> None:
        homes, lying, unit = self._mixture.homes, self._mixture.lying, task.id.unit
        if task.id.kind == "read_expert":
            lying[homes[unit]] = unit
        elif task.id.kind == "compute" and self._mixture.kinds[unit] == "expert":
            assert lying[homes[unit]] == unit


def run(mixture: Mixture, reads_first: bool) -> list[Task]:
    schedule, machine = mixture.schedule(), Machine(mixture, reads_first)
    counts = [1] * len(mixture.kinds)
    ahead = schedule.reads(0)
    for sweep in range(len(mixture.choices)):
        later = schedule.reads(sweep + 1)
        machine.run([*ahead, *later], schedule.computes(sweep, counts))
        ahead = []
    return machine.order


@given(mixtures(), st.booleans())
def test_chosen_experts_are_computed_in_order_and_no_others(mixture, reads_first):
    tasks = run(mixture, reads_first)
    for sweep, layers in enumerate(mixture.choices):
        computed = [it.id.unit for it in tasks if it.id[:2] == (sweep, "compute")]
        wanted = []
        for layer, chosen in enumerate(layers):
            first = layer * len(LAYER)
            wanted += [first, first + 1, *(first + 2 + expert for expert in sorted(chosen))]
        assert computed == wanted


@given(mixtures(), st.booleans())
def test_an_expert_is_read_once_after_its_router_if_it_is_chosen_and_not_in_memory(
    mixture, reads_first
):
    tasks = run(mixture, reads_first)
    places = {task.id: place for place, task in enumerate(tasks)}
    reads = {task.id for task in tasks if task.id.kind == "read_expert"}
    found = iter(mixture.found)
    for sweep, layers in enumerate(mixture.choices):
        for layer, chosen in enumerate(layers):
            router, in_memory = layer * len(LAYER) + 1, next(found)
            for number, unit in enumerate(mixture.experts_of(router)):
                read = TaskId(sweep, "read_expert", unit)
                assert (read in reads) == (number in chosen and unit not in in_memory)
                if read in reads:
                    assert places[read] > places[TaskId(sweep, "compute", router)]


def test_routers_are_asked_once_each_and_only_when_they_were_computed():
    mixture = Mixture(2, frozenset(), 1, [[frozenset({1}), frozenset({0, 3})]])
    tasks = mixture.schedule().computes(0, [1] * 12)
    seen = []
    for task in tasks:
        seen.append(task.id.unit)
        before = seen[:-1]  # what has been computed when this task is handed out
        assert len(mixture.asked) == before.count(1) + before.count(7)
    assert seen == [0, 1, 3, 6, 7, 8, 11]
    assert mixture.asked == mixture.choices[0]


def test_an_expert_that_was_not_computed_lies_nowhere_when_a_sweep_was_cut():
    cut = [[frozenset({0})], [frozenset({0})]]
    mixture = Mixture(1, frozenset({2, 3, 4}), 1, cut)  # of units 2 to 5 the last is in memory
    schedule = mixture.schedule()
    for _ in zip(range(3), schedule.computes(0, [1] * 6), strict=False):  # up to its read
        pass
    assert mixture.homes == {2: 3}
    reads = [it for it in schedule.computes(1, [1] * 6) if it.id.kind == "read_expert"]
    assert [(it.id.unit, it.ring_offset) for it in reads] == [(2, -1)]


def test_reads_are_counted():
    mixture = Mixture(1, frozenset({2, 3}), 2, [[frozenset({0, 2, 3})]])
    experts = mixture.on_demand()
    experts.computed(0, 1)
    assert experts.take_read() == 1
    assert experts.take_read() == 0
