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
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from lm_offload.pipeline.disk_queue import DiskQueue
from lm_offload.pipeline.progress import Progress
from lm_offload.pipeline.sweep_clock import SweepClock
from lm_offload.pipeline.trace import Trace
from lm_offload.schedule.kv_staging import Groups, StagedSweep
from lm_offload.schedule.sweep import SweepSchedule
from lm_offload.schedule.task import Task
from lm_offload.step_time import StepTime

Compute = Callable[[Task], None]
NOTHING_STAGED: Groups = MappingProxyType({})


@dataclass(frozen=True)
class Disk:
    """Both directions of the disk, and the ring that a KV cache on disk is staged in."""

    reads: DiskQueue
    writes: DiskQueue
    kv_ring_blocks: int = 0

    def submit(self, task: Task) -> None:
        """Queue a task that the sweep itself comes upon."""
        (self.writes if task.resource == "disk_write" else self.reads).submit([task])

    def close(self) -> None:
        """Stop their threads."""
        self.reads.close()
        self.writes.close()


class Executor(Protocol):
    """One sweep at a time; the same tasks whether overlapped or not."""

    def run_sweep(
        self, micro_batches: Sequence[int], compute: Compute, groups: Groups = NOTHING_STAGED
    ) -> StepTime:
        """Run the next sweep, calling `compute` for each compute task once its needs are done.

        `groups` are what is staged of a KV cache on disk, by unit.
        """

    def close(self) -> None:
        """Stop the threads of the resources."""


class _CpuExecutor:
    """What both ways of carrying out sweeps have: the disk, the CPU and how far they are."""

    def __init__(
        self, schedule: SweepSchedule, disk: Disk, progress: Progress, trace: Trace
    ) -> None:
        self._schedule = schedule
        self._disk = disk
        self._cpu = _Cpu(disk, progress, trace)
        self._progress = progress
        self._sweep = 0

    def close(self) -> None:
        """Stop the reader threads."""
        self._disk.close()

    def _staged(self, groups: Groups) -> StagedSweep:
        return StagedSweep(self._sweep, groups, self._disk.kv_ring_blocks)

    def _go_on(self) -> None:
        """To the next sweep: nothing of the last one is waited for any more."""
        self._sweep += 1
        self._progress.forget_before(self._sweep)


class OverlappedExecutor(_CpuExecutor):
    """Reads run ahead as far as the staging ring allows, across units and across sweeps."""

    def __init__(
        self, schedule: SweepSchedule, disk: Disk, progress: Progress, trace: Trace
    ) -> None:
        super().__init__(schedule, disk, progress, trace)
        self._disk.reads.submit(schedule.reads(0))

    def run_sweep(
        self, micro_batches: Sequence[int], compute: Compute, groups: Groups = NOTHING_STAGED
    ) -> StepTime:
        """Queue KV reads and the reads of the sweep after this one, then compute this one."""
        clock, staged = SweepClock(self._disk.reads), self._staged(groups)
        self._disk.reads.submit([*staged.reads, *self._schedule.reads(self._sweep + 1)])
        tasks = staged.weave(self._schedule.computes(self._sweep, micro_batches))
        self._cpu.run(tasks, compute, clock)
        self._progress.wait(tuple(staged.writes))
        self._go_on()
        return clock.stop()

    @property
    def spared(self) -> frozenset[int]:
        """The streamed units that the next sweep need not read."""
        return self._schedule.spared

    def retain(self, units: frozenset[int]) -> None:
        """Keep these units in their homes from the sweep after the next one on."""
        self._schedule.retained = units

    def read_again(self) -> None:
        """Let go of all that is read ahead, and read it as is right now: what `retain` says last.

        Between two sweeps; when it returns no read is under way to a unit that is not retained.
        """
        self._disk.reads.withdraw()
        self._progress.forget_from(self._sweep)
        self._schedule.restart()
        self._disk.reads.submit(self._schedule.reads(self._sweep))


class SerialExecutor(_CpuExecutor):
    """Nothing overlaps: each read starts when its weights are needed. For comparison only."""

    def run_sweep(
        self, micro_batches: Sequence[int], compute: Compute, groups: Groups = NOTHING_STAGED
    ) -> StepTime:
        """Run reads, computes and writes strictly one after the other."""
        clock, staged = SweepClock(self._disk.reads), self._staged(groups)
        reads = {task.id: task for task in (*self._schedule.reads(self._sweep), *staged.reads)}
        for task in staged.weave(self._schedule.computes(self._sweep, micro_batches)):
            if task.resource == "disk_read":
                reads[task.id] = task
                continue
            self._disk.reads.submit([reads.pop(need) for need in task.needs if need in reads])
            self._cpu.run([task], compute, clock)
            if task.id.kind == "write_kv":
                self._progress.wait((task.id,))
        self._go_on()
        return clock.stop()


class _Cpu:
    """Carries out what is on the CPU's list, and hands writes on to the disk."""

    def __init__(self, disk: Disk, progress: Progress, trace: Trace) -> None:
        self._disk = disk
        self._progress = progress
        self._trace = trace

    def run(self, tasks: Iterable[Task], compute: Compute, clock: SweepClock) -> None:
        """Tasks in order, each when its needs are done."""
        for task in tasks:
            if task.resource != "cpu":
                self._disk.submit(task)
                continue
            wait_s = self._progress.wait(task.needs)
            if task.id.kind == "compute":
                self._compute(task, compute, clock, wait_s)
            else:  # its place may be overwritten
                self._progress.announce(task.id)

    def _compute(self, task: Task, compute: Compute, clock: SweepClock, wait_s: float) -> None:
        start_s = time.perf_counter()
        compute(task)
        end_s = time.perf_counter()
        self._progress.finish(task.id)
        if wait_s:
            self._trace.record_wait(task, start_s - wait_s, start_s)
        self._trace.record(task, start_s, end_s)
        clock.add(end_s - start_s, wait_s)
