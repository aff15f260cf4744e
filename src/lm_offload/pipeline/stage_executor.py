"""Carries out sweeps over several devices, each in its own program order beside the others.

Each device has a thread that launches its tasks, so one that waits for weights holds up nobody
else. Rows go from device to device by events: only the launching threads wait on the host::

    launcher 0   | a0 | s0 | a1 | s1 |                 s: the copy is queued behind a
    launcher 1        .    | b0 |    | b1 | h | d |    b0 is launched behind the end of s0
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

from lm_offload.device.base import Event
from lm_offload.pipeline.disk_queue import DiskQueue
from lm_offload.pipeline.executor import NOTHING_STAGED, Compute
from lm_offload.pipeline.progress import Progress
from lm_offload.pipeline.stage_launcher import Rows, StageLauncher, StageResources
from lm_offload.pipeline.trace import Trace
from lm_offload.schedule.kv_staging import Groups
from lm_offload.schedule.stages import StagedSchedule
from lm_offload.schedule.task import Task, TaskId
from lm_offload.step_time import DeviceTime, StepTime, of_devices


class StageExecutor:
    """See `Executor`: transfers run ahead as far as the rings allow, across sweeps."""

    def __init__(
        self,
        schedule: StagedSchedule,
        disk: DiskQueue,
        stages: Sequence[StageResources],
        rows_of: Rows,
        progress: Progress,
        trace: Trace,
    ) -> None:
        self._schedule = schedule
        self._disk = disk
        self._stages = stages
        self._progress = progress
        sent: dict[TaskId, Event] = {}
        self._launchers = {
            f"{kind}{number}": launcher
            for number, stage in enumerate(stages)
            for launcher in [StageLauncher(stage, rows_of, sent, progress, trace)]
            for kind in ("gpu", "d2h")
        }
        self._sweep = 0
        self._seen = self._totals()
        self._submit(schedule.transfers(0))

    def run_sweep(
        self, micro_batches: Sequence[int], compute: Compute, groups: Groups = NOTHING_STAGED
    ) -> StepTime:
        """Queue the transfers of the sweep after this one, then launch this one.

        There are no `groups`: no KV cache lies on disk. What was moved between two sweeps counts in
        the second.
        """
        start_s = time.perf_counter()
        self._submit(self._schedule.transfers(self._sweep + 1))
        for task in self._schedule.computes(self._sweep, micro_batches):
            self._launchers[task.resource].submit(task, compute)
        wait_s = self._progress.wait((task.id,))
        self._sweep += 1
        self._progress.forget_before(self._sweep)
        before, self._seen = self._seen, self._totals()
        return _step_time(time.perf_counter() - start_s, wait_s, before, self._seen)

    def close(self) -> None:
        """Stop the threads of the resources."""
        for launcher in set(self._launchers.values()):
            launcher.close()
        for stage in self._stages:
            stage.close()
        self._disk.close()

    def _submit(self, tasks: Sequence[Task]) -> None:
        """Queue transfers, each at its link."""
        self._disk.submit(task for task in tasks if task.resource == "disk_read")
        for number, stage in enumerate(self._stages):
            stage.link.submit(task for task in tasks if task.resource == f"h2d{number}")

    def _totals(self) -> _Totals:
        stages = tuple(stage.time() for stage in self._stages)
        return _Totals(self._disk.busy_s, self._disk.moved_bytes.total(), stages)


class _Totals(NamedTuple):
    """What the disk and each device have done so far."""

    disk_s: float
    read_bytes: int
    stages: tuple[DeviceTime, ...]


def _step_time(total_s: float, wait_s: float, before: _Totals, after: _Totals) -> StepTime:
    """The record of a sweep from what had been done before and has been done now."""
    pairs = (
        zip(end, start, strict=True) for end, start in zip(after.stages, before.stages, strict=True)
    )
    stages = [DeviceTime(*(end - start for end, start in pair)) for pair in pairs]
    return StepTime(
        total_s=total_s,
        cpu_s=total_s - wait_s,
        wait_s=wait_s,
        disk_read_s=after.disk_s - before.disk_s,
        read_bytes=after.read_bytes - before.read_bytes,
        **of_devices(stages),
    )
