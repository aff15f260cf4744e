"""The dependency-driven sweep: the one generator of the task sequence that is executed.

A read needs only that the units which lay in its place in the ring have been released, so reads
run ahead through the layers and, because the ring does not end with a sweep, into the next one::

    disk_read  | r1  |  r3  | r4 |  r1' |  r3' ...        r1' belongs to the next sweep
    cpu        | c0 | c1 | c2 | c3 | c4 | c0' | c1' ...   units 0 and 2 are resident

Where everything is resident there are no reads and the sweep is a plain loop over the units.

Of a mixture of experts, those that no row uses are left out (`schedule/on_demand.py`): the tasks of
a layer's experts are known when its router has been computed, so take them one by one.

Streamed units that are `retained` for a while have a home meanwhile. Their read fills it, once, and
needs nothing: whoever lends the home has seen to it that it is free.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from lm_offload.schedule.on_demand import OnDemand
from lm_offload.schedule.ring import Key, Ring
from lm_offload.schedule.task import Task, TaskId


class SweepSchedule:
    """Yields the tasks of sweep after sweep; remembers the ring and where units lie in it."""

    def __init__(
        self,
        streamed_bytes: Mapping[int, int],
        ring_bytes: int,
        experts: OnDemand | None = None,
    ) -> None:
        """`streamed_bytes` are read in every sweep; `experts` are not among them."""
        self._streamed_bytes = dict(sorted(streamed_bytes.items()))
        self._ring = Ring(ring_bytes)
        self._offsets: dict[Key, int] = {}  # of units that are read for a sweep; -1: in their homes
        self.retained: frozenset[int] = frozenset()  # in the sweeps that `reads` is called for
        self.spared: frozenset[int] = frozenset()  # of these, those without a read
        self._experts = experts
        self._homed: frozenset[int] = frozenset()  # `retained` of the last sweep with reads
        self._homed_before: frozenset[int] = frozenset()  # and of the one before

    def reads(self, sweep: int) -> list[Task]:
        """The reads of one sweep in order of use; call once for each sweep, in order."""
        self.spared = self.retained & self._homed
        self._homed_before, self._homed = self._homed, self.retained
        wanted = (unit for unit in self._streamed_bytes if unit not in self.spared)
        return [self._read(Key(sweep, unit)) for unit in wanted]

    def restart(self) -> None:
        """Forget the last call of `reads`, which is made again; the sweep before is done."""
        self._ring = Ring(self._ring.capacity_bytes)
        self._offsets.clear()
        self._homed &= self._homed_before

    def _read(self, key: Key) -> Task:
        task_id, size_bytes = TaskId(key.sweep, "read", key.unit), self._streamed_bytes[key.unit]
        offset, evicted = -1, list[Key]()
        if key.unit not in self.retained:
            offset, evicted = self._ring.place(key, size_bytes)
        self._offsets[key] = offset
        needs = tuple(TaskId(old.sweep, "release", old.unit) for old in evicted)
        return Task(task_id, "disk_read", needs, size_bytes, offset)

    def computes(self, sweep: int, micro_batches: Sequence[int]) -> Iterator[Task]:
        """The compute and release tasks of one sweep, unit after unit; after its `reads`.

        `micro_batches[unit]` is the number of compute tasks of each unit.
        """
        before: tuple[TaskId, ...] = ()
        for unit, count in enumerate(micro_batches):
            if self._experts is not None and self._experts.is_unused(unit):
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

    def _weights(self, key: Key) -> tuple[tuple[TaskId, ...], int]:
        """The read of a unit, if it has one, and its place in the ring, if that is there."""
        if key in self._offsets:
            return (TaskId(key.sweep, "read", key.unit),), self._offsets.pop(key)
        offset = self._experts.place(key.unit) if self._experts is not None else None
        if offset is None:
            return (), -1
        return (TaskId(key.sweep, "read_expert", key.unit),), offset
