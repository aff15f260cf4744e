"""Carries out sweeps on a device: disk, link and device side by side, each in program order.

The caller launches; it waits for uploads, and at the end of a sweep for the logits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from lm_offload.pipeline.device_clock import DeviceClock
from lm_offload.pipeline.device_resources import DeviceResources
from lm_offload.pipeline.executor import NOTHING_STAGED, Compute
from lm_offload.pipeline.progress import Progress
from lm_offload.pipeline.trace import Trace
from lm_offload.schedule.device_sweep import DeviceSweepSchedule
from lm_offload.schedule.in_place import NOTHING
from lm_offload.schedule.kv_staging import Groups
from lm_offload.schedule.task import Task
from lm_offload.step_time import StepTime


def nothing_in_place() -> frozenset[int]:
    """The device computes all units."""
    return NOTHING


def never() -> int:
    """The CPU has its part in every micro-batch, if it attends."""
    return 0


def stays() -> bool:
    """The device sends no keys and values to the host."""
    return False


class DeviceExecutor:
    """See `Executor`: transfers run ahead as far as both rings allow, across sweeps.

    `in_place` says which units the CPU computes in the sweep that is about to begin, `alone` to how
    many of its first micro-batches the device attends alone, `writes_back` whether to all of them.
    What runs ahead is that of another sweep alike; where that was wrong it is dropped.
    """

    def __init__(
        self,
        schedule: DeviceSweepSchedule,
        resources: DeviceResources,
        progress: Progress,
        trace: Trace,
        in_place: Callable[[], frozenset[int]] = nothing_in_place,
        alone: Callable[[], int] = never,
        writes_back: Callable[[], bool] = stays,
    ) -> None:
        self._schedule = schedule
        self._resources = resources
        self._progress = progress
        self._trace = trace
        self._in_place = in_place
        self._alone = alone
        self._writes_back = writes_back
        self._expected = NOTHING  # to be computed in place, by the transfers that are queued
        self._sweep = 0
        self._clock = DeviceClock(resources)
        resources.submit(schedule.transfers(0))

    def run_sweep(
        self, micro_batches: Sequence[int], compute: Compute, groups: Groups = NOTHING_STAGED
    ) -> StepTime:
        """Queue the transfers of the sweep after this one, then launch this one.

        There are no `groups`: no KV cache lies on disk.
        """
        clock, in_place = self._clock, self._in_place()
        clock.start()
        if in_place != self._expected:
            self._transfer_again(in_place)
        self._resources.submit(self._schedule.transfers(self._sweep + 1, in_place))
        way = in_place, self._alone(), self._writes_back()
        for task in self._schedule.computes(self._sweep, micro_batches, *way):
            clock.add_wait(self._wait(task) + self._start(task, compute))
        self._sweep += 1
        self._progress.forget_before(self._sweep)
        return clock.stop()

    def close(self) -> None:
        """Stop the threads of the resources."""
        self._resources.close()

    def _transfer_again(self, in_place: frozenset[int]) -> None:
        """Let go of all that was moved for this sweep, and move what it needs."""
        self._resources.withdraw()
        self._progress.forget_from(self._sweep)
        self._schedule.restart(self._sweep)
        self._resources.submit(self._schedule.transfers(self._sweep, in_place))
        self._expected = in_place

    def _wait(self, task: Task) -> float:
        wait_s = self._progress.wait(task.needs)
        if wait_s:
            now_s = time.perf_counter()
            self._trace.record_wait(task, now_s - wait_s, now_s)
        return wait_s

    def _start(self, task: Task, compute: Compute) -> float:
        """Do what the task says; returns the seconds waited."""
        host = self._resources.host
        if task.id.kind == "download":
            return self._download(task, compute)
        if host is not None and task.resource != "gpu":
            host.submit(task, lambda: compute(task))
        elif task.id.kind == "release":
            self._resources.processor.release(task)
        else:
            self._resources.processor.launch(task, lambda: compute(task))
            self._progress.finish(task.id)
        return 0.0

    def _download(self, task: Task, compute: Compute) -> float:
        """The end of a sweep: what the device computed is on the host, and the device idle."""
        start_s, stream = time.perf_counter(), self._resources.d2h
        stream.wait(self._resources.processor.reached())
        stream.launch(lambda: compute(task))
        stream.record().synchronize()
        self._resources.processor.release(task)  # until all that was launched is counted
        self._progress.wait((task.id,))
        end_s = time.perf_counter()
        self._trace.record(task, start_s, end_s)
        return end_s - start_s
