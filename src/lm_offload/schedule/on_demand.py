"""Experts of a mixture: computed, and read where they lie on disk, if a router has chosen them.

What a router says is known when it has been computed, so the reads of a layer's experts are queued
then. They have a ring of their own; other units are read ahead as ever, between them::

    disk_read   |  r8  |    | r1 | r4 |  r8' | ...       r8 is the attention of the next layer
    cpu         | attention | router |  c1  |  c4  | c8 | router' ...

Those that are used more than one in memory take its home (`schedule/kept_experts.py`): their read
goes there and needs nothing, since what the other was needed for has been computed.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from lm_offload.schedule.kept_experts import KeptExperts
from lm_offload.schedule.ring import Key, Ring
from lm_offload.schedule.task import Task, TaskId

Chosen = Callable[[], Collection[int]]  # experts of the layer whose router was computed last
TakeHome = Callable[[int, int], None]  # an expert lives where another did


class ExpertUse(NamedTuple):
    """Experts that routers chose, each counted once for a layer and sweep, and those read."""

    used: int
    read: int


NO_EXPERTS = ExpertUse(0, 0)


class OnDemand:
    """The experts of each layer, which follow the layer's router in the order of units."""

    def __init__(
        self,
        experts_of: Mapping[int, range],
        sizes_bytes: Mapping[int, int],
        resident: Collection[int],
        ring: range,
        chosen: Chosen,
        take_home: TakeHome,
    ) -> None:
        """`experts_of` a router are units, `ring` the bytes of the staging ring for them.

        `take_home` is called before the read of an expert that takes the home of another one.
        """
        self._experts_of = experts_of
        self._sizes_bytes = sizes_bytes
        self._kept = {
            router: KeptExperts(
                [sizes_bytes[unit] for unit in experts],
                [number for number, unit in enumerate(experts) if unit in resident],
            )
            for router, experts in experts_of.items()
        }
        self._ring = Ring(len(ring))
        self._start = ring.start
        self._chosen = chosen
        self._take_home = take_home
        self._read_count = 0
        self._router = -1  # that was computed last
        self._used: Sequence[int] = ()  # experts of its layer, in order
        self._offsets: dict[int, int] = {}

    def take_read(self) -> int:
        """How many experts were read since the last call."""
        count, self._read_count = self._read_count, 0
        return count

    def next_used(self, unit: int) -> int:
        """The unit or, where it is an expert that nobody chose, the next one that is used."""
        experts = self._experts_of.get(self._router, range(0))
        if unit not in experts:
            return unit
        place = bisect_left(self._used, unit)
        return self._used[place] if place < len(self._used) else experts.stop

    def computed(self, sweep: int, unit: int) -> list[Task]:
        """The reads of the chosen experts, if `unit`, which has been computed, is a router."""
        if unit in self._experts_of:
            return self._reads(sweep, unit)
        if unit in self._sizes_bytes:
            first = self._experts_of[self._router].start
            self._kept[self._router].arrived(unit - first)
        return []

    def place(self, unit: int) -> int | None:
        """Where an expert was read to, below zero its home; None for what is not read here."""
        return self._offsets.pop(unit, None)

    def _reads(self, sweep: int, router: int) -> list[Task]:
        chosen, experts = self._chosen(), self._experts_of[router]
        self._router = router
        self._used = [experts[number] for number in sorted(chosen)]
        missing = self._kept[router].use(chosen)
        self._read_count += len(missing)
        return [
            self._read(Key(sweep, experts[number]), None if owner is None else experts[owner])
            for number, owner in missing.items()
        ]

    def _read(self, key: Key, owner: int | None) -> Task:
        size_bytes, evicted = self._sizes_bytes[key.unit], list[Key]()
        if owner is None:
            offset, evicted = self._ring.place(key, size_bytes)
            offset += self._start
        else:
            self._take_home(key.unit, owner)
            offset = -1
        self._offsets[key.unit] = offset
        needs = tuple(TaskId(old.sweep, "release", old.unit) for old in evicted)
        task_id = TaskId(key.sweep, "read_expert", key.unit)
        return Task(task_id, "disk_read", needs, size_bytes, offset)
