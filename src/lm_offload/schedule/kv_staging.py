"""Keys and values of layers whose cache lies on disk, as tasks of the same sweep.

A *group* is some sequences of one layer: what is read together, computed while it lies in the
staging ring, and written together. It is read as soon as the groups in its place are written::

    disk_read   | g0 | g1 |      | g2  |         g2 takes the place of g0
    cpu         | .. | c0 | c1 |      | c2 |
    disk_write            | w0 |                 only blocks that became full

Which sequences a sweep has is known when it begins, so the ring is empty then.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from lm_offload.schedule.ring import Key, Ring
from lm_offload.schedule.task import Resource, Task, TaskId


class KVGroup(NamedTuple):
    """Some sequences in one layer."""

    blocks: int  # of its place in the ring
    computes: int  # micro-batches
    read_bytes: int
    write_bytes: int


Groups = Mapping[int, Sequence[KVGroup]]  # by unit, in the order of micro-batches


class StagedSweep:
    """The KV tasks of one sweep: `reads` to be queued at its start, the others between computes."""

    def __init__(self, sweep: int, groups: Groups, ring_blocks: int) -> None:
        self.reads: list[Task] = []
        self.writes: list[TaskId] = []  # what must be done before the next sweep begins
        self._staged: dict[tuple[int, int], _Staged] = {}  # by unit and micro-batch
        self._last: dict[tuple[int, int], Task] = {}
        self._unread: tuple[TaskId, ...] = ()  # what groups without a read leave to the next one
        ring = Ring(ring_blocks)
        for unit in sorted(groups):
            micro_batch = 0
            for part, group in enumerate(groups[unit]):
                self._place(ring, Key(sweep, unit, part), group, micro_batch)
                micro_batch += group.computes

    def weave(self, tasks: Iterable[Task]) -> Iterator[Task]:
        """The sweep's other tasks, with what attention needs and with the writes behind it."""
        for task in tasks:
            at = (task.id.unit, task.id.micro_batch)
            staged = self._staged.get(at) if task.id.kind == "compute" else None
            if staged is None:
                yield task
                continue
            yield replace(task, needs=(*task.needs, *staged.needs), kv_offset=staged.offset)
            if at in self._last:
                yield self._last[at]

    def _place(self, ring: Ring, key: Key, group: KVGroup, first: int) -> None:
        """Tasks of a group whose computes begin with micro-batch `first`."""
        offset, evicted = ring.place(key, group.blocks)
        needs = (*self._unread, *(_write_id(old) for old in evicted))
        self._unread = () if group.read_bytes else needs
        if group.read_bytes:
            task_id = TaskId(key.sweep, "read_kv", key.unit, key.part)
            self.reads.append(Task(task_id, "disk_read", needs, group.read_bytes, kv_offset=offset))
            needs = (task_id,)
        for micro_batch in range(first, first + group.computes):
            self._staged[key.unit, micro_batch] = _Staged(needs, offset)
        last = first + group.computes - 1
        self._last[key.unit, last] = _write(key, group.write_bytes, last, offset)
        self.writes.append(_write_id(key))


class _Staged(NamedTuple):
    """What the computes of a group need, and where it lies."""

    needs: tuple[TaskId, ...]
    offset: int


def _write_id(key: Key) -> TaskId:
    return TaskId(key.sweep, "write_kv", key.unit, key.part)


def _write(key: Key, size_bytes: int, last: int, offset: int) -> Task:
    """Without bytes it only says that the place is free."""
    needs = (TaskId(key.sweep, "compute", key.unit, last),)
    resource: Resource = "disk_write" if size_bytes else "cpu"
    return Task(_write_id(key), resource, needs, size_bytes, kv_offset=offset)
