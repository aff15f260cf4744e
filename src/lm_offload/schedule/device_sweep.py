"""The dependency-driven sweep over three tiers: the same units, computed on a device.

A unit on disk passes through the staging ring in host memory to the ring on the device, one in host
memory is uploaded from its home, one on the device is there. Its place in the staging ring is free
when it has been uploaded, that on the device when it has been computed::

    disk_read  | r1  |  r4 | r1' ...             units: 0 on the device, 1 and 4 on disk,
    h2d        | u2 | u1 | u3 | u4 | u2' ...     2 and 3 in host memory
    gpu        | c0 |    | c1 | c2 | c3 | c4 | c0' ...
    d2h                                 | d |    logits

Both rings run ahead across units and sweeps. Where all is on the device nothing is transferred but
the logits. Units may be computed by the CPU where they lie (see `in_place`); a sweep in which it
computes others than in the one before begins with empty rings.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from lm_offload.schedule.host_attention import Piece, after_projection, before_rest, stages_of
from lm_offload.schedule.in_place import NOTHING, Handovers
from lm_offload.schedule.ring import Key, Ring
from lm_offload.schedule.task import Task, TaskId
from lm_offload.schedule.written_back import written_back


@dataclass(frozen=True)
class Transfers:
    """Which units move in each sweep, by their bytes, and the rings that they move through."""

    read_bytes: Mapping[int, int]  # from disk; these are uploaded, too
    upload_bytes: Mapping[int, int]
    ring_bytes: int
    device_ring_bytes: int


class DeviceSweepSchedule:
    """Yields the tasks of sweep after sweep; remembers both rings and where units lie in them."""

    def __init__(self, transfers: Transfers, on_host: frozenset[int] = frozenset()) -> None:
        """`on_host`: units whose attention the CPU computes."""
        self._transfers = transfers
        self._on_host = on_host
        self._ring = Ring(transfers.ring_bytes)
        self._device_ring = Ring(transfers.device_ring_bytes)
        self._offsets: dict[Key, int] = {}

    def transfers(self, sweep: int, in_place: frozenset[int] = NOTHING) -> list[Task]:
        """Reads and uploads of one sweep in order of use; call once for each sweep, in order.

        Nothing of units `in_place` moves.
        """
        tasks = []
        for unit in sorted(self._transfers.upload_bytes.keys() - in_place):
            if unit in self._transfers.read_bytes:
                tasks.append(self._read(Key(sweep, unit)))
                tasks.append(self._upload(Key(sweep, unit), tasks[-1]))
            else:
                tasks.append(self._upload(Key(sweep, unit), None))
        return tasks

    def restart(self, sweep: int) -> None:
        """Nothing lies in the rings; the next `transfers` are those of `sweep`."""
        self._ring = Ring(self._transfers.ring_bytes)
        self._device_ring = Ring(self._transfers.device_ring_bytes)
        self._offsets = {key: at for key, at in self._offsets.items() if key.sweep != sweep}

    def computes(
        self,
        sweep: int,
        micro_batches: Sequence[int],
        in_place: frozenset[int] = NOTHING,
        alone: int = 0,
        writes_back: bool = False,
    ) -> Iterator[Task]:
        """The compute and release tasks of one sweep and the download of its logits.

        `micro_batches[unit]` is the number of compute tasks of each unit; the CPU attends to
        nothing of the first `alone`, and to nothing at all but stores where the device
        `writes_back`. After its `transfers`.
        """
        if writes_back:
            whole = self._computes(sweep, micro_batches, in_place, 0, NOTHING)
            return written_back(whole, self._on_host)
        return self._computes(sweep, micro_batches, in_place, alone, self._on_host)

    def _computes(
        self,
        sweep: int,
        micro_batches: Sequence[int],
        in_place: frozenset[int],
        alone: int,
        on_host: frozenset[int],
    ) -> Iterator[Task]:
        before: tuple[TaskId, ...] = ()
        handovers, unit_before = Handovers(), 0
        for stage in self._stages(micro_batches, on_host, in_place):
            count = micro_batches[stage[0].unit]
            alike = micro_batches[unit_before] == count
            for micro_batch, piece in itertools.product(range(count), stage):
                if piece.kind == "in place":
                    on_cpu = TaskId(sweep, "compute", piece.unit, micro_batch)
                    yield from handovers.to_host(on_cpu, before)
                    continue
                task_id = TaskId(sweep, piece.kind, piece.unit, micro_batch)
                wanted = [micro_batch] if alike else range(micro_batches[unit_before])
                back = handovers.to_device(wanted)
                yield from back
                attends = piece.unit in on_host and micro_batch >= alone
                yield from self._tasks(task_id, (*before, *(task.id for task in back)), attends)
                before = (task_id,)
                is_last = piece.kind == "compute" and micro_batch == count - 1
                if is_last and Key(sweep, piece.unit) in self._offsets:
                    yield Task(TaskId(sweep, "release", piece.unit), "gpu", before)
                    del self._offsets[Key(sweep, piece.unit)]
            unit_before = stage[-1].unit
        yield Task(TaskId(sweep, "download", len(micro_batches) - 1), "d2h", before)

    def _stages(
        self, micro_batches: Sequence[int], on_host: frozenset[int], in_place: frozenset[int]
    ) -> list[list[Piece]]:
        sizes, ring_bytes = self._transfers.upload_bytes, self._transfers.device_ring_bytes
        return stages_of(micro_batches, on_host, sizes, ring_bytes, in_place)

    def _tasks(self, task_id: TaskId, before: tuple[TaskId, ...], attends: bool) -> Iterator[Task]:
        """One task of the device, with those that surround it where the CPU attends."""
        sweep, unit = task_id.sweep, task_id.unit
        uploaded = Key(sweep, unit) in self._offsets
        needs = (*before, TaskId(sweep, "upload", unit)) if uploaded else before
        if attends and task_id.kind == "compute":
            back = before_rest(task_id)
            needs = (*needs, back.id)
            yield back
        offset = self._offsets[Key(sweep, unit)] if uploaded else -1
        yield Task(task_id, "gpu", needs, ring_offset=offset)
        if attends and task_id.kind == "project":
            yield from after_projection(task_id)

    def _read(self, key: Key) -> Task:
        size_bytes = self._transfers.read_bytes[key.unit]
        offset, evicted = self._ring.place(key, size_bytes)
        needs = tuple(TaskId(old.sweep, "upload", old.unit) for old in evicted)
        task_id = TaskId(key.sweep, "read", key.unit)
        return Task(task_id, "disk_read", needs, size_bytes, offset)

    def _upload(self, key: Key, read: Task | None) -> Task:
        size_bytes = self._transfers.upload_bytes[key.unit]
        offset, evicted = self._device_ring.place(key, size_bytes)
        self._offsets[key] = offset
        needs = tuple(TaskId(old.sweep, "release", old.unit) for old in evicted)
        task_id, source = TaskId(key.sweep, "upload", key.unit), -1
        if read is not None:
            needs, source = (read.id, *needs), read.ring_offset
        return Task(task_id, "h2d", needs, size_bytes, offset, source)
