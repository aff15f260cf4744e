"""Experts of a mixture: computed, and read where they lie on disk, if a router has chosen them.

What a router says is known when it has been computed, so the reads of a layer's experts are queued
then. They have a ring of their own; other units are read ahead as ever, between them::

    disk_read   |  r8  |    | r1 | r4 |  r8' | ...       r8 is the attention of the next layer
    cpu         | attention | router |  c1  |  c4  | c8 | router' ...
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping

from lm_offload.schedule.ring import Key, Ring
from lm_offload.schedule.task import Task, TaskId

Chosen = Callable[[], Container[int]]  # experts of the layer whose router was computed last


class OnDemand:
    """The experts of each layer, which follow the layer's router in the order of units."""

    def __init__(
        self,
        experts_of: Mapping[int, range],
        streamed_bytes: Mapping[int, int],
        ring: range,
        chosen: Chosen,
    ) -> None:
        """`experts_of` a router are units, `ring` the bytes of the staging ring for them."""
        self._experts_of = experts_of
        self._streamed_bytes = streamed_bytes
        self._ring = Ring(len(ring))
        self._start = ring.start
        self._chosen = chosen
        self._unused: frozenset[int] = frozenset()
        self._offsets: dict[int, int] = {}

    def is_unused(self, unit: int) -> bool:
        """Whether it is an expert of the layer that nobody chose."""
        return unit in self._unused

    def reads(self, sweep: int, unit: int) -> list[Task]:
        """Those of the chosen experts, if `unit` is a router, which has been computed."""
        experts = self._experts_of.get(unit)
        if experts is None:
            return []
        chosen = self._chosen()
        used = [expert for number, expert in enumerate(experts) if number in chosen]
        self._unused = frozenset(experts).difference(used)
        return [self._read(Key(sweep, it)) for it in used if it in self._streamed_bytes]

    def place(self, unit: int) -> int | None:
        """Where an expert was read to; None for what is not read here."""
        return self._offsets.pop(unit, None)

    def _read(self, key: Key) -> Task:
        size_bytes = self._streamed_bytes[key.unit]
        offset, evicted = self._ring.place(key, size_bytes)
        self._offsets[key.unit] = self._start + offset
        needs = tuple(TaskId(old.sweep, "release", old.unit) for old in evicted)
        task_id = TaskId(key.sweep, "read_expert", key.unit)
        return Task(task_id, "disk_read", needs, size_bytes, self._start + offset)
