"""FlexGen's schedule as its code runs it: a barrier after every unit and micro-batch.

All weights of the next unit are loaded beside the *first* micro-batch, and everything has to end
before the next micro-batch begins, so a long load is hidden behind one computation only::

    h2d  | w1         | kv2  | kv3  |
    gpu  | c0.0 |     | c0.1 | c0.2 |      the barriers are where all begin together
    d2h               | s0   | s1   |

Host memory that is not pinned is copied by the thread that launches the kernels, before it
launches them: `stage` tasks hold up the computation of their step.
"""

from __future__ import annotations

from collections.abc import Iterator

from lm_offload.schedule.block import Block, Place
from lm_offload.schedule.block_tasks import BlockTasks, Needs
from lm_offload.schedule.task import Kind, Task, TaskId

PROLOGUE = TaskId(0, "sync", -1)  # the barrier before the first step


def flexgen(block: Block) -> Iterator[Task]:
    """The tasks of all sweeps in program order; every task comes after what it needs."""
    places, parts = list(block.places()), BlockTasks(block)
    steps = _Steps(block, parts)
    yield from _closed([*steps.load(0, ()), *parts.load_kv(places[0], ())], PROLOGUE)
    barrier = PROLOGUE
    neighbours = zip([None, *places], places, [*places[1:], None], strict=False)
    for before, place, after in neighbours:
        tasks = list(steps.step(before, place, after, (barrier,)))
        barrier = TaskId(place.sweep, "sync", place.unit, place.micro_batch)
        yield from _closed(tasks, barrier)


def _closed(tasks: list[Task], barrier: TaskId) -> Iterator[Task]:
    """Tasks and the barrier that waits for all of them."""
    yield from tasks
    yield Task(barrier, "cpu", tuple(task.id for task in tasks))


class _Steps:
    """What is done between two barriers."""

    def __init__(self, block: Block, parts: BlockTasks) -> None:
        self._block = block
        self._parts = parts

    def step(
        self, before: Place | None, place: Place, after: Place | None, barrier: Needs
    ) -> Iterator[Task]:
        """Loads for what comes next, the computation, stores of what came before."""
        loads: list[Task] = []
        if place.micro_batch == 0:
            load = place.sweep * len(self._block.units) + place.unit + 1
            loads += self.load(load, barrier)
        if after:
            loads += self._parts.load_kv(after, barrier)
        yield from loads
        if before:
            yield from self._parts.store_kv(before, barrier)
        staged = tuple(task.id for task in loads if task.resource == "cpu")
        yield from self._compute(before, place, after, barrier + staged)

    def load(self, load: int, barrier: Needs) -> Iterator[Task]:
        """All weights of one unit."""
        kinds: tuple[Kind, ...] = self._block.flows.load_weights
        if kinds and load < self._block.num_loads:
            yield from self._parts.load_weights(load, 0, {kinds[0]: barrier})

    def _compute(
        self, before: Place | None, place: Place, after: Place | None, launched: Needs
    ) -> Iterator[Task]:
        """The computation; hidden states of the neighbours or, with one micro-batch, its own."""
        parts = self._parts
        alone = self._block.num_micro_batches == 1
        if before and not alone:
            yield from parts.store_hidden(before, launched)
        incoming = place if alone else after
        if incoming:
            yield from parts.load_hidden(incoming, launched)
        yield from parts.attend(place, launched)
        yield parts.compute(place, launched)
        if alone:
            yield from parts.store_hidden(place)
