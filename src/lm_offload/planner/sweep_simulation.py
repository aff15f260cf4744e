"""Times the executor's own task sequence with predicted durations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Protocol

from lm_offload.planner.timeline import simulate
from lm_offload.schedule.sweep import SweepSchedule
from lm_offload.schedule.task import Task, TaskId

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
    def cpu_s(self) -> float:
        """Seconds of all units."""

    @property
    def fill_s(self) -> float:
        """Enough to fill every ring."""

    def transfer_s(self, task: Task) -> float:
        """Seconds of a transfer."""


def sweep_seconds(
    loads: Sequence[Load], streamed_bytes: Mapping[int, int], ring_bytes: int
) -> list[float]:
    """Seconds of sweeps that follow one another, each with the engine's overhead at its end.

    Reads run ahead through the ring as the executor lets them; it is full when the first sweep
    begins, since an engine reads on while it has nothing to compute.
    """
    if not streamed_bytes:
        return [load.cpu_s + load.overhead_s for load in loads]
    schedule = SweepSchedule(streamed_bytes, ring_bytes)
    return simulated_seconds(loads, schedule.reads, schedule.computes)


def simulated_seconds(
    loads: Sequence[Load], transfers: Transfers, computes: Computes
) -> list[float]:
    """The same for the tasks of any generator."""
    idle_s = loads[0].fill_s  # before the first task
    tasks = _tasks(loads, transfers, computes)
    timeline = simulate(tasks, lambda task: _duration_s(task, loads, idle_s))
    first, last = TaskId(0, "compute", 0), len(loads[0].compute_s) - 1
    ends = [timeline.ends_s[TaskId(sweep, "compute", last)] for sweep in range(len(loads))]
    return [end - start for start, end in pairwise([timeline.starts_s[first] + idle_s, *ends])]


def _tasks(loads: Sequence[Load], transfers: Transfers, computes: Computes) -> Iterator[Task]:
    """As the executor queues them; one compute task stands for all micro-batches of a unit."""
    yield from transfers(0)
    for sweep, load in enumerate(loads):
        if sweep + 1 < len(loads):
            yield from transfers(sweep + 1)
        yield from computes(sweep, [1] * len(load.compute_s))


def _duration_s(task: Task, loads: Sequence[Load], idle_s: float) -> float:
    load = loads[min(task.id.sweep, len(loads) - 1)]
    if task.id.kind in ("read", "upload"):
        return load.transfer_s(task)
    if task.id.kind in ("release", "download"):  # what the download takes is in the overhead
        return 0.0
    before_s = idle_s if (task.id.sweep, task.id.unit) == (0, 0) else 0.0
    after_s = load.overhead_s if task.id.unit == len(load.compute_s) - 1 else 0.0
    return before_s + load.compute_s[task.id.unit] + after_s
