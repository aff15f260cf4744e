"""The dependency-driven sweep: the one generator of the task sequence that is executed.

A read needs only that the units which lay in its place in the ring have been released, so reads
run ahead through the layers and, because the ring does not end with a sweep, into the next one::

    disk_read  | r1  |  r3  | r4 |  r1' |  r3' ...        r1' belongs to the next sweep
    cpu        | c0 | c1 | c2 | c3 | c4 | c0' | c1' ...   units 0 and 2 are resident

A large unit is read in parts (`schedule/part_ring.py`), each with needs of its own. Where
everything is resident there are no reads and the sweep is a plain loop over the units.

Of a mixture of experts, those that no row uses are left out (`schedule/on_demand.py`): the tasks of
a layer's experts are known when its router has been computed, so take them one by one.

Streamed units that are `retained` for a while have a home meanwhile. Their read fills it, once, and
needs nothing: whoever lends the home has seen to it that it is free.

Neighbours that are never streamed may be one task, where each has one micro-batch: nobody waits for
any of them but the next, and what hands over from one to the other takes time in every sweep.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

from lm_offload.schedule.on_demand import OnDemand
from lm_offload.schedule.part_ring import PartRing
from lm_offload.schedule.ring import Key
from lm_offload.schedule.task import Task, TaskId


class _Place(NamedTuple):
    """Where a unit is read to, below zero its home, and in how many tasks."""

    ring_offset: int
    reads: int


class SweepSchedule:
    """Yields the tasks of sweep after sweep; remembers the ring and where units lie in it."""

    def __init__(
        self,
        streamed_bytes: Mapping[int, int],
        ring_bytes: int,
        in_flight_bytes: int,
        experts: OnDemand | None = None,
        joined: Collection[int] = (),
    ) -> None:
        """`streamed_bytes` are read in every sweep; `experts` are not among them.

        `in_flight_bytes` are in flight at once, see `parts_of`. Units that are `joined` are one
        task with those beside them that are, too.
        """
        self._streamed_bytes = dict(sorted(streamed_bytes.items()))
        self._sizes = ring_bytes, in_flight_bytes
        self._ring = PartRing(*self._sizes)
        self._places: dict[Key, _Place] = {}  # of units that are read for a sweep
        self.retained: frozenset[int] = frozenset()  # in the sweeps that `reads` is called for
        self.spared: frozenset[int] = frozenset()  # of these, those without a read
        self._experts = experts
        self._runs = _runs(set(joined) - streamed_bytes.keys())
        self._homed: frozenset[int] = frozenset()  # `retained` of the last sweep with reads
        self._homed_before: frozenset[int] = frozenset()  # and of the one before

    def reads(self, sweep: int) -> list[Task]:
        """The reads of one sweep in order of use; call once for each sweep, in order."""
        self.spared = self.retained & self._homed
        self._homed_before, self._homed = self._homed, self.retained
        wanted = (unit for unit in self._streamed_bytes if unit not in self.spared)
        return [task for unit in wanted for task in self._reads(Key(sweep, unit))]

    def restart(self) -> None:
        """Forget the last call of `reads`, which is made again; the sweep before is done."""
        self._ring = PartRing(*self._sizes)
        self._places.clear()
        self._homed &= self._homed_before

    def _reads(self, key: Key) -> Iterator[Task]:
        """Of a unit that is retained one, of others one for each part."""
        size_bytes, first = self._streamed_bytes[key.unit], TaskId(key.sweep, "read", key.unit)
        if key.unit in self.retained:
            self._places[key] = _Place(-1, 1)
            yield Task(first, "disk_read", (), size_bytes)
            return
        offset, parts = self._ring.place(key, size_bytes)
        self._places[key] = _Place(offset, len(parts))
        for number, part in enumerate(parts):
            needs = (TaskId(part.gate.sweep, "release", part.gate.unit),) if part.gate else ()
            place = {"ring_offset": offset, "unit_offset": part.unit_offset}
            task_id = first._replace(micro_batch=number)
            yield Task(task_id, "disk_read", needs, part.size_bytes, **place)

    def computes(self, sweep: int, micro_batches: Sequence[int]) -> Iterator[Task]:
        """The compute and release tasks of one sweep, unit after unit; after its `reads`.

        `micro_batches[unit]` is the number of compute tasks of each unit.
        """
        before: tuple[TaskId, ...] = ()
        for unit, count, units in self._spans(micro_batches):
            if units > 1:
                task_id = TaskId(sweep, "compute", unit)
                yield Task(task_id, "cpu", before, units=units)
                before = (task_id,)
                if self._experts is not None:
                    yield from self._experts.computed(sweep, unit + units - 1)
                continue
            weights, offset = self._weights(Key(sweep, unit))
            for micro_batch in range(count):
                task_id = TaskId(sweep, "compute", unit, micro_batch)
                yield Task(task_id, "cpu", before + weights, ring_offset=offset)
                before = (task_id,)
            if offset >= 0:
                yield Task(TaskId(sweep, "release", unit), "cpu", before)
            if self._experts is not None:
                yield from self._experts.computed(sweep, unit)

    def _spans(self, micro_batches: Sequence[int]) -> Iterator[tuple[int, int, int]]:
        """Units with their micro-batches and, of several that are one task, how many those are."""
        unit = 0
        while unit < len(micro_batches):
            units = self._runs.get(unit, 1)
            if units > 1 and max(micro_batches[unit : unit + units]) > 1:
                units = 1
            yield unit, micro_batches[unit], units
            unit += units
            if self._experts is not None:
                unit = self._experts.next_used(unit)

    def _weights(self, key: Key) -> tuple[tuple[TaskId, ...], int]:
        """The reads of a unit, if it has any, and its place in the ring, if that is there."""
        if key in self._places:
            place = self._places.pop(key)
            first = TaskId(key.sweep, "read", key.unit)
            reads = tuple(first._replace(micro_batch=number) for number in range(place.reads))
            return reads, place.ring_offset
        offset = self._experts.place(key.unit) if self._experts is not None else None
        if offset is None:
            return (), -1
        return (TaskId(key.sweep, "read_expert", key.unit),), offset


def _runs(units: Collection[int]) -> dict[int, int]:
    """Neighbours among units: the first of them, and how many they are."""
    runs = groupby(enumerate(sorted(units)), lambda placed: placed[1] - placed[0])
    each = ([unit for _, unit in run] for _, run in runs)
    return {run[0]: len(run) for run in each}
