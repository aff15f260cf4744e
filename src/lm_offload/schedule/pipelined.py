"""Schedules without a barrier: a task waits for its data and for a free buffer, nothing else.

PIPO, zig-zag and CGOPipe are this one generator with other depths; see their modules.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from lm_offload.schedule.block import Block, Place
from lm_offload.schedule.block_tasks import BlockTasks, Needs
from lm_offload.schedule.task import Kind, Task, TaskId


@dataclass(frozen=True)
class Depth:
    """How far a pipeline runs ahead; 0 units: a unit is loaded when the one before is done."""

    units: int  # whose weights are loaded ahead of the one that computes
    micro_batches: int = 1  # whose KV, hidden states and CPU attention are started ahead
    pages: int = 1  # of a unit's weights, spread over the micro-batches of a unit before


def pipelined(block: Block, depth: Depth) -> Iterator[Task]:
    """The tasks of all sweeps in program order; every task comes after what it needs.

    A link carries what the next micro-batch loads, then weights, then what its attention gives.
    """
    pipeline = _Pipeline(block, depth)
    places = list(block.places())
    ahead = min(depth.micro_batches, block.num_micro_batches)
    yield from pipeline.first_loads()
    for place in places[:ahead]:
        yield from chain(pipeline.load(place), pipeline.attend(place))
    yield from pipeline.pages(places[0]) if depth.units else ()
    for index, place in enumerate(places):
        yield from pipeline.finish(place)
        started = places[index + ahead : index + ahead + 1]
        pages = chain.from_iterable(map(pipeline.pages, places[index + 1 : index + 2]))
        loads = chain.from_iterable(map(pipeline.load, started))
        yield from chain(loads, pages) if depth.units else chain(pages, loads)
        yield from chain.from_iterable(map(pipeline.attend, started))


class _Pipeline:
    """The parts of a block's sweeps with the edges that protect its buffers."""

    def __init__(self, block: Block, depth: Depth) -> None:
        self._block = block
        self._depth = depth
        self._parts = BlockTasks(block, depth.pages)
        buffers = depth.micro_batches + 1
        self._kv_users: deque[TaskId] = deque(maxlen=buffers)
        self._hidden_users: deque[TaskId] = deque(maxlen=buffers)

    def first_loads(self) -> Iterator[Task]:
        """The weights that are there before anything computes."""
        for load in range(max(self._depth.units, 1)):
            for page in range(self._depth.pages):
                yield from self._load(load, page)

    def pages(self, place: Place) -> Iterator[Task]:
        """The pages of a later unit that are loaded while this place computes."""
        count, shares = self._depth.pages, self._block.num_micro_batches
        load = place.sweep * len(self._block.units) + place.unit + self._depth.units
        first, end = (-(-(place.micro_batch + step) * count // shares) for step in (0, 1))
        for page in range(first, end):
            yield from self._load(load, page)

    def load(self, place: Place) -> Iterator[Task]:
        """Keys, values and hidden states of a micro-batch."""
        parts = self._parts
        kv = list(parts.load_kv(place, _oldest(self._kv_users)))
        hidden = list(parts.load_hidden(place, _oldest(self._hidden_users)))
        if kv:
            self._kv_users.append(parts.kv_user(place))
        if hidden:
            self._hidden_users.append(parts.hidden_user(place))
        yield from chain(kv, hidden)

    def attend(self, place: Place) -> Iterator[Task]:
        """Attention on the CPU, if that is where it is."""
        return self._parts.attend(place)

    def finish(self, place: Place) -> Iterator[Task]:
        """The compute task of a micro-batch and what it leaves."""
        yield self._parts.compute(place)
        yield from self._parts.store_kv(place)
        yield from self._parts.store_hidden(place)

    def _load(self, load: int, page: int) -> Iterator[Task]:
        if load < self._block.num_loads:
            yield from self._parts.load_weights(load, page, self._gates(load))

    def _gates(self, load: int) -> dict[Kind, Needs]:
        """Which earlier load has to have left its buffers; the host has as many as the device."""
        parts, old = self._parts, load - self._depth.units - 1
        kinds, computed = self._block.flows.load_weights, parts.last_compute(old)
        if self._depth.units == 0 or "upload" not in kinds:
            return dict.fromkeys(kinds[:1], computed)
        uploaded = parts.last_upload(old)
        return {"read": uploaded, "stage": uploaded, "upload": computed}


def _oldest(users: deque[TaskId]) -> Needs:
    """What has to be done before a buffer is free again, when `users` fill them all."""
    return (users[0],) if len(users) == users.maxlen else ()
