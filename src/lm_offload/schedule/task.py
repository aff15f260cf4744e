"""The schedule as data: what moves and what computes, on which resource, after what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

# disk_read, disk_write, h2d, d2h, gpu or cpu; of one device among several gpu0, h2d1 and so on
Resource = str
Kind = Literal[
    "read",  # weights: from disk, by host copy into pinned memory, to the device
    "read_expert",
    "stage",
    "upload",
    "read_kv",  # keys and values of the context, and of new tokens on their way home
    "stage_kv",
    "upload_kv",
    "download_kv",
    "write_kv",
    "read_hidden",  # hidden states between units
    "upload_hidden",
    "download_hidden",
    "write_hidden",
    "send_hidden",  # from one device to the next
    "download",  # logits to where tokens are sampled
    "project",  # attention on the CPU beside a GPU, before the unit's compute task
    "send_qkv",
    "attend",
    "return_attended",
    "compute",  # a unit for one micro-batch
    "release",  # its place may be overwritten
    "sync",  # everything before is done
]


class TaskId(NamedTuple):
    """Names one task among all sweeps of a run; `unit` counts in execution order."""

    sweep: int
    kind: Kind
    unit: int
    micro_batch: int = 0


@dataclass(frozen=True, slots=True)
class Task:
    """One piece of work; it may start when every task in `needs` is done.

    A `read` fills `size_bytes`, from `unit_offset` on, of a unit that lies at `ring_offset` of the
    staging ring or, below zero, in its home; a `compute` works on one micro-batch, a `release` says
    that a unit's place in the ring may be overwritten. An `upload` fills the device's ring from
    `ring_offset` with what lies at `source_offset` of the staging ring or, below zero, in the
    unit's home. `kv_offset` counts blocks of the ring that keys and values from disk are staged in.
    A `compute` may be of several `units`, from the one that it names on, one after the other.
    """

    id: TaskId
    resource: Resource
    needs: tuple[TaskId, ...]
    size_bytes: int = 0
    ring_offset: int = -1
    source_offset: int = -1
    kv_offset: int = -1
    unit_offset: int = 0
    units: int = 1

    def each(self) -> Iterator[Task]:
        """A compute of several units as one of each, after the one before."""
        if self.units == 1:
            yield self
            return
        needs = self.needs
        for unit in range(self.id.unit, self.id.unit + self.units):
            task_id = self.id._replace(unit=unit)
            yield Task(task_id, self.resource, needs)
            needs = (task_id,)
