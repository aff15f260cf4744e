"""The sweep over several devices: each computes some of the units, rows flow through them.

A micro-batch goes to the next device as soon as the last unit of a stage has computed it, so that
devices work at the same time::

    gpu0 | a0 | a1 | a2 | a3 |                        | a0' ...   a: units of stage 0, with rows
    d2h0      | s0 | s1 | s2 | s3 |                               of micro-batches 0 to 3
    gpu1           | b0 | b1 | b2 | b3 | head |                   b: of stage 1
    h2d1 | u7 | u9 |         | u7' ...                            its weights, if not resident
    d2h1                                      | d |               logits, which the next sweep needs

Within a stage a micro-batch passes through a span of units before the next one has its turn. A
span is as many units as have their uploaded weights in the ring together; with a ring of one unit
each unit is finished for all micro-batches before the next::

    a span of all units        gpu0 | a0 b0 c0 | a1 b1 c1 | a2 b2 c2 |     c0 leaves early
    a span for each unit       gpu0 | a0 a1 a2 | b0 b1 b2 | c0 c1 c2 |     each unit is there once

A device may have several stretches of units, virtual stages (arXiv:2104.04473), in turn with the
others. Weights of all devices are then on their way all the time, where with one stretch for each a
link waits for its ring as soon as that is full::

    a stretch for each device  h2d0 | u0 | u1 | u2 |                   | u0' ...
                               h2d1 | u3 |              | u4 | u5 |
    two devices in turn        h2d0 | u0 | u2 | u4 | u0' ...
                               h2d1 | u1 | u3 | u5 | u1' ...

Resources carry the number of their device: gpu0, h2d1. The disk and its ring are common to all.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from lm_offload.schedule.ring import Key, Ring
from lm_offload.schedule.task import Task, TaskId


@dataclass(frozen=True)
class Stage:
    """What one device computes; `ring_bytes` are for those of its units that are uploaded."""

    units: Sequence[int]  # ascending
    ring_bytes: int


class VirtualStage(NamedTuple):
    """Units that follow one another on one device."""

    device: int
    units: Sequence[int]


def virtual_stages(stages: Sequence[Stage]) -> list[VirtualStage]:
    """The stretches of all devices in the order in which rows pass them."""
    devices = {unit: number for number, stage in enumerate(stages) for unit in stage.units}
    runs = itertools.groupby(sorted(devices), key=devices.__getitem__)
    return [VirtualStage(device, [*units]) for device, units in runs]


@dataclass(frozen=True)
class StagedTransfers:
    """Which units move in each sweep, by their bytes, to the device of their stage."""

    read_bytes: Mapping[int, int]  # from disk; these are uploaded, too
    upload_bytes: Mapping[int, int]
    ring_bytes: int  # in host memory


class StagedSchedule:
    """Yields the tasks of sweep after sweep; remembers all rings and where units lie in them."""

    def __init__(self, stages: Sequence[Stage], transfers: StagedTransfers) -> None:
        self.stages = stages
        self._virtual = virtual_stages(stages)
        self._transfers = transfers
        self._ring = Ring(transfers.ring_bytes)
        self._device_rings = [Ring(stage.ring_bytes) for stage in stages]
        self._offsets: dict[Key, int] = {}

    def transfers(self, sweep: int) -> list[Task]:
        """Reads and uploads of one sweep in order of use; call once for each sweep, in order."""
        tasks = []
        for stage in self._virtual:
            for unit in stage.units:
                if unit in self._transfers.upload_bytes:
                    reads = [*self._reads(Key(sweep, unit))]
                    tasks += [*reads, self._upload(Key(sweep, unit), stage.device, reads)]
        return tasks

    def computes(self, sweep: int, micro_batches: Sequence[int]) -> Iterator[Task]:
        """The compute, release and send tasks of one sweep and the download of its logits.

        `micro_batches[unit]` is the number of compute tasks of each unit. After its `transfers`.
        """
        last = len(micro_batches) - 1
        for stage in self._virtual:
            for span in self._spans(stage, micro_batches):
                yield from self._span(sweep, stage, span, micro_batches[span[0]])
        needs = (TaskId(sweep, "compute", last, micro_batches[last] - 1),)
        yield Task(TaskId(sweep, "download", last), f"d2h{self._virtual[-1].device}", needs)

    def _spans(self, stage: VirtualStage, micro_batches: Sequence[int]) -> list[list[int]]:
        """A span ends where no more weights fit, or where the number of micro-batches changes."""
        spans: list[list[int]] = []
        sizes, device = self._transfers.upload_bytes, self.stages[stage.device]
        largest_bytes = max((sizes.get(unit, 0) for unit in device.units), default=0)
        whole_bytes = device.ring_bytes - largest_bytes  # wherever the ring is cut off
        taken_bytes = 0
        for unit in stage.units:
            size_bytes = sizes.get(unit, 0)
            alike = bool(spans) and micro_batches[spans[-1][0]] == micro_batches[unit]
            room_bytes = whole_bytes - taken_bytes
            if alike and (not size_bytes or not taken_bytes or size_bytes <= room_bytes):
                spans[-1].append(unit)
            else:
                spans.append([unit])
                taken_bytes = 0
            taken_bytes += size_bytes
        return spans

    def _span(
        self, sweep: int, stage: VirtualStage, span: Sequence[int], count: int
    ) -> Iterator[Task]:
        """All micro-batches through the units of a span; weights are released behind the last."""
        resource = f"gpu{stage.device}"
        for micro_batch, unit in itertools.product(range(count), span):
            task_id = TaskId(sweep, "compute", unit, micro_batch)
            uploaded = unit in self._transfers.upload_bytes
            offset = self._offsets[Key(sweep, unit)] if uploaded else -1
            yield Task(task_id, resource, self._needs(task_id, stage), ring_offset=offset)
            if uploaded and micro_batch == count - 1:
                yield Task(TaskId(sweep, "release", unit), resource, (task_id,))
                del self._offsets[Key(sweep, unit)]
            if unit == stage.units[-1] and unit < self._last:
                sent = TaskId(sweep, "send_hidden", unit, micro_batch)
                yield Task(sent, f"d2h{stage.device}", (task_id,))

    @property
    def _last(self) -> int:
        """The last unit of all."""
        return self._virtual[-1].units[-1]

    def _needs(self, task_id: TaskId, stage: VirtualStage) -> tuple[TaskId, ...]:
        """Its weights and, at the beginning of a stage, its rows; the device keeps order."""
        sweep, _, unit, micro_batch = task_id
        needs = []
        if unit in self._transfers.upload_bytes:
            needs.append(TaskId(sweep, "upload", unit))
        if unit == stage.units[0] and unit > 0:
            needs.append(TaskId(sweep, "send_hidden", unit - 1, micro_batch))
        if unit == 0 and sweep > 0:  # its tokens are drawn from the logits of the last sweep
            needs.append(TaskId(sweep - 1, "download", self._last))
        return tuple(needs)

    def _reads(self, key: Key) -> Iterator[Task]:
        """The read of a unit on disk into the ring in host memory."""
        if key.unit in self._transfers.read_bytes:
            size_bytes = self._transfers.read_bytes[key.unit]
            offset, evicted = self._ring.place(key, size_bytes)
            needs = tuple(TaskId(old.sweep, "upload", old.unit) for old in evicted)
            task_id = TaskId(key.sweep, "read", key.unit)
            yield Task(task_id, "disk_read", needs, size_bytes, offset)

    def _upload(self, key: Key, number: int, reads: Sequence[Task]) -> Task:
        size_bytes = self._transfers.upload_bytes[key.unit]
        offset, evicted = self._device_rings[number].place(key, size_bytes)
        self._offsets[key] = offset
        needs = tuple(TaskId(old.sweep, "release", old.unit) for old in evicted)
        source = reads[0].ring_offset if reads else -1
        needs = (*(read.id for read in reads), *needs)
        task_id = TaskId(key.sweep, "upload", key.unit)
        return Task(task_id, f"h2d{number}", needs, size_bytes, offset, source)
