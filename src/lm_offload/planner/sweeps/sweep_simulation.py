"""Times the executor's own task sequence with predicted durations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Protocol

from lm_offload.planner.sweeps.kv_reads import LayerReads
from lm_offload.planner.sweeps.timeline import simulate
from lm_offload.schedule.task import Task, TaskId

_FIRST = TaskId(0, "compute", 0)
Transfers = Callable[[int], list[Task]]
Computes = Callable[[int, Sequence[int]], Iterator[Task]]


class Load(Protocol):
    """What the resources have to do in a sweep."""

    @property
    def compute_s(self) -> Sequence[float]:
        """Seconds of each unit."""

    @property
    def overhead_s(self) -> float:
        """Seconds of the engine itself."""

    @property
    def fill_s(self) -> float:
        """Enough to fill every ring of weights."""

    @property
    def idle_s(self) -> float:
        """More of a read that finds the disk idle."""

    @property
    def kv(self) -> Mapping[int, LayerReads]:
        """Reads and writes of units whose KV cache lies on disk."""

    @property
    def counts(self) -> Sequence[int]:
        """Compute tasks of each unit; one may stand for several micro-batches."""

    def transfer_s(self, task: Task) -> float:
        """Seconds of a transfer of weights."""

    def task_s(self, task: Task) -> float:
        """Seconds of a task on the rows of a unit."""


def simulated_seconds(
    loads: Sequence[Load], transfers: Transfers, computes: Computes
) -> list[float]:
    """Seconds of sweeps that follow one another, each with the engine's overhead at its end.

    Transfers run ahead as the executor lets them, with the KV cache in memory.
    """
    return seconds_of(loads, _tasks(loads, transfers, computes))


def seconds_of(loads: Sequence[Load], tasks: Iterable[Task]) -> list[float]:
    """The same of tasks in the order in which they are queued.

    Rings are full when the first sweep begins, since an engine reads on while it has nothing to
    compute.
    """
    before_s = loads[0].fill_s  # before the first task
    timeline = simulate(
        tasks, lambda task: _duration_s(task, loads, before_s), lambda task: _idle_s(task, loads)
    )
    last = len(loads[0].compute_s) - 1
    ends = [timeline.ends_s[TaskId(sweep, "compute", last)] for sweep in range(len(loads))]
    return [end - start for start, end in pairwise([timeline.starts_s[_FIRST] + before_s, *ends])]


def _tasks(loads: Sequence[Load], transfers: Transfers, computes: Computes) -> Iterator[Task]:
    """As the executor queues them."""
    yield from transfers(0)
    for sweep, load in enumerate(loads):
        if sweep + 1 < len(loads):
            yield from transfers(sweep + 1)
        yield from computes(sweep, load.counts)


def _idle_s(task: Task, loads: Sequence[Load]) -> float:
    is_read = task.id.kind == "read"
    return loads[min(task.id.sweep, len(loads) - 1)].idle_s if is_read else 0.0


def _duration_s(task: Task, loads: Sequence[Load], first_s: float) -> float:
    load, unit = loads[min(task.id.sweep, len(loads) - 1)], task.id.unit
    if task.id.kind in ("read", "upload"):
        return load.transfer_s(task)
    if task.id.kind in ("release", "download"):  # what the download takes is in the overhead
        return 0.0
    staged = load.kv.get(unit)
    if staged is not None:
        seconds = {"read_kv": staged.read_s, "write_kv": staged.write_s}
        return seconds.get(task.id.kind, load.compute_s[unit]) / len(staged.sizes)
    before_s = first_s if task.id == _FIRST else 0.0
    after_s = load.overhead_s if unit == len(load.compute_s) - 1 else 0.0
    return before_s + load.task_s(task) + after_s
