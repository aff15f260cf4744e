"""Carries out sweeps: the CPU here, the disk beside it, each in program order.

::

    overlapped   disk_read | r1  |  r3  | r4 |  r1' | ...     reads of this and the next sweep
                 cpu       | c0 | c1 | c2 | c3 | c4 | c0' |   are queued before the first compute

    serial       disk_read |    | r1  |    |     | r3  |      a read starts when its weights
                 cpu       | c0 |     | c1 | c2  |     | c3 | are next, and the CPU waits
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from lm_offload.pipeline.disk_queue import DiskQueue
from lm_offload.pipeline.progress import Progress
from lm_offload.pipeline.trace import Trace
from lm_offload.plan import StepTime
from lm_offload.schedule.sweep import SweepSchedule
from lm_offload.schedule.task import Task


class Executor(Protocol):
    """One sweep at a time; the same tasks whether overlapped or not."""

    def run_sweep(self, micro_batches: Sequence[int], compute: Callable[[Task], None]) -> StepTime:
        """Run the next sweep, calling `compute` for each compute task once its needs are done."""

    def close(self) -> None:
        """Stop the threads of the resources."""


class OverlappedExecutor:
    """Reads run ahead as far as the staging ring allows, across units and across sweeps."""

    def __init__(
        self, schedule: SweepSchedule, disk: DiskQueue, progress: Progress, trace: Trace
    ) -> None:
        self._schedule = schedule
        self._disk = disk
        self._progress = progress
        self._trace = trace
        self._sweep = 0
        self._disk.submit(schedule.reads(0))

    def run_sweep(self, micro_batches: Sequence[int], compute: Callable[[Task], None]) -> StepTime:
        """Queue the reads of the sweep after this one, then compute this one."""
        clock = _SweepClock(self._disk)
        self._disk.submit(self._schedule.reads(self._sweep + 1))
        tasks = self._schedule.computes(self._sweep, micro_batches)
        _run_cpu(tasks, compute, self._progress, self._trace, clock)
        self._sweep += 1
        self._progress.forget_before(self._sweep)
        return clock.stop()

    def close(self) -> None:
        """Stop the reader threads."""
        self._disk.close()


class SerialExecutor:
    """Nothing overlaps: each read starts when its weights are needed. For comparison only."""

    def __init__(
        self, schedule: SweepSchedule, disk: DiskQueue, progress: Progress, trace: Trace
    ) -> None:
        self._schedule = schedule
        self._disk = disk
        self._progress = progress
        self._trace = trace
        self._sweep = 0

    def run_sweep(self, micro_batches: Sequence[int], compute: Callable[[Task], None]) -> StepTime:
        """Run reads and computes strictly one after the other."""
        clock = _SweepClock(self._disk)
        reads = {task.id: task for task in self._schedule.reads(self._sweep)}
        for task in self._schedule.computes(self._sweep, micro_batches):
            self._disk.submit([reads.pop(need) for need in task.needs if need in reads])
            _run_cpu([task], compute, self._progress, self._trace, clock)
        self._sweep += 1
        self._progress.forget_before(self._sweep)
        return clock.stop()

    def close(self) -> None:
        """Stop the reader threads."""
        self._disk.close()


def _run_cpu(
    tasks: Iterable[Task],
    compute: Callable[[Task], None],
    progress: Progress,
    trace: Trace,
    clock: _SweepClock,
) -> None:
    for task in tasks:
        wait_s = progress.wait(task.needs)
        if task.id.kind == "release":
            progress.announce(task.id)
            continue
        start_s = time.perf_counter()
        compute(task)
        end_s = time.perf_counter()
        progress.finish(task.id)
        if wait_s:
            trace.record_wait(task, start_s - wait_s, start_s)
        trace.record(task, start_s, end_s)
        clock.add(end_s - start_s, wait_s)


class _SweepClock:
    """Sums the seconds of one sweep by resource."""

    def __init__(self, disk: DiskQueue) -> None:
        self._disk = disk
        self._disk_busy_s = disk.busy_s
        self._read_bytes = disk.read_bytes
        self._cpu_s = 0.0
        self._wait_s = 0.0
        self._start_s = time.perf_counter()

    def add(self, cpu_s: float, wait_s: float) -> None:
        """Count one compute task."""
        self._cpu_s += cpu_s
        self._wait_s += wait_s

    def stop(self) -> StepTime:
        """The record of the sweep, which ends now."""
        return StepTime(
            total_s=time.perf_counter() - self._start_s,
            cpu_s=self._cpu_s,
            wait_s=self._wait_s,
            disk_read_s=self._disk.busy_s - self._disk_busy_s,
            read_bytes=self._disk.read_bytes - self._read_bytes,
        )
