"""The schedule as data: what moves and what computes, on which resource, after what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

Resource = Literal["disk_read", "cpu"]
Kind = Literal["read", "compute", "release"]


class TaskId(NamedTuple):
    """Names one task among all sweeps of a run; `unit` counts in execution order."""

    sweep: int
    kind: Kind
    unit: int
    micro_batch: int = 0


@dataclass(frozen=True, slots=True)
class Task:
    """One piece of work; it may start when every task in `needs` is done.

    A `read` fills `size_bytes` of the staging ring from `ring_offset`, a `compute` works on one
    micro-batch, a `release` says that a unit's place in the ring may be overwritten.
    """

    id: TaskId
    resource: Resource
    needs: tuple[TaskId, ...]
    size_bytes: int = 0
    ring_offset: int = -1
