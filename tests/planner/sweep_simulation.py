"""Times the tasks of `SweepSchedule` with predicted durations, one by one.

What `sweep_recurrence.py` is checked against; searches use that, which is faster.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lm_offload.planner.sweeps.sweep_simulation import Load, seconds_of, simulated_seconds
from lm_offload.schedule.kv_staging import Groups, StagedSweep
from lm_offload.schedule.sweep import SweepSchedule
from lm_offload.schedule.task import Task, TaskId


def sweep_seconds(
    loads: Sequence[Load],
    streamed_bytes: Mapping[int, int],
    ring_bytes: int,
    in_flight_bytes: int,
    kv_ring_blocks: int = 0,
) -> list[float]:
    """Seconds of sweeps that follow one another, each with the engine's overhead at its end.

    Reads run ahead through the ring as the executor lets them.
    """
    loads = [_InParts(load, streamed_bytes) for load in loads]
    schedule = SweepSchedule(streamed_bytes, ring_bytes, in_flight_bytes)
    if kv_ring_blocks:
        return seconds_of(loads, _staged_tasks(schedule, loads, kv_ring_blocks))
    return simulated_seconds(loads, schedule.reads, schedule.computes)


@dataclass
class _InParts:
    """A load whose units are read in parts, each in its share of the time."""

    load: Load
    streamed_bytes: Mapping[int, int]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.load, name)

    def transfer_s(self, task: Task) -> float:
        share = task.size_bytes / self.streamed_bytes[task.id.unit]
        return self.load.transfer_s(task) * share


def _use(task: Task) -> tuple[int, bool, int]:
    return task.id.unit, task.id.kind == "read_kv", task.id.micro_batch


def _staged_tasks(
    schedule: SweepSchedule, loads: Sequence[Load], kv_ring_blocks: int
) -> Iterator[Task]:
    """The same with the tasks of a KV cache on disk; one compute task for each of its groups."""
    before: tuple[TaskId, ...] = ()
    for sweep, load in enumerate(loads):
        groups = {unit: layer.sizes for unit, layer in load.kv.items()}
        staged = StagedSweep(sweep, groups, _ring_blocks(groups, kv_ring_blocks))
        yield from _merged(schedule.reads(sweep), staged.reads, before)
        counts = [len(groups.get(unit, (1,))) for unit in range(len(load.compute_s))]
        yield from staged.weave(schedule.computes(sweep, counts))
        before = (TaskId(sweep, "compute", len(counts) - 1), *staged.writes)


def _ring_blocks(groups: Groups, ring_blocks: int) -> int:
    """The ring, which holds two groups also where several are taken as one."""
    most = max((group.blocks for staged in groups.values() for group in staged), default=0)
    return max(ring_blocks, 2 * most)


def _merged(
    weights: Iterable[Task], kv: Iterable[Task], before: tuple[TaskId, ...]
) -> Iterator[Task]:
    """Reads in order of use; which blocks of the cache are read is known when a sweep begins."""
    known = (replace(task, needs=(*task.needs, *before)) for task in kv)
    yield from sorted((*weights, *known), key=_use)
