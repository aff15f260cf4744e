"""Carries out sweeps on a device: disk, link and device side by side, each in program order.

The caller launches; it waits for uploads, and at the end of a sweep for the logits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lm_offload.device.base import Stream
from lm_offload.pipeline.device_queue import DeviceQueue
from lm_offload.pipeline.disk_queue import DiskQueue
from lm_offload.pipeline.executor import NOTHING_STAGED, Compute
from lm_offload.pipeline.host_processor import HostProcessor
from lm_offload.pipeline.progress import Progress
from lm_offload.pipeline.trace import Trace
from lm_offload.schedule.device_sweep import DeviceSweepSchedule
from lm_offload.schedule.in_place import NOTHING
from lm_offload.schedule.kv_staging import Groups
from lm_offload.schedule.task import Resource, Task
from lm_offload.step_time import StepTime


@dataclass(frozen=True)
class DeviceResources:
    """What works side by side: a queue for each link that brings weights, the device, its way back.

    `links` has `disk_read` and `h2d`.
    """

    links: Mapping[Resource, DiskQueue]
    processor: DeviceQueue
    d2h: Stream
    host: HostProcessor | None = None  # where the CPU attends or computes units

    def submit(self, tasks: Sequence[Task]) -> None:
        """Queue transfers, each at its link."""
        for resource, link in self.links.items():
            link.submit(task for task in tasks if task.resource == resource)

    def withdraw(self) -> None:
        """Drop the transfers that have not been started and wait for those that have."""
        for link in self.links.values():
            link.withdraw()

    def close(self) -> None:
        """Stop the threads of all of them."""
        for link in self.links.values():
            link.close()
        self.processor.close()
        if self.host is not None:
            self.host.close()


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
        self._clock = _Clock(resources)
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
            clock.wait_s += self._wait(task)
            clock.wait_s += self._start(task, compute)
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


class _Clock:
    """Sums the seconds of a sweep by resource, with what was moved between the last one and it."""

    def __init__(self, resources: DeviceResources) -> None:
        self._resources = resources
        self._seen = self._totals()
        self.start()

    def start(self) -> None:
        """A sweep begins now."""
        self.wait_s = 0.0
        self._start_s = time.perf_counter()

    def stop(self) -> StepTime:
        """The record of the sweep, which ends now."""
        total_s = time.perf_counter() - self._start_s
        before, self._seen = self._seen, self._totals()
        differences = (end - start for end, start in zip(self._seen, before, strict=True))
        disk_s, read_bytes, h2d_s, h2d_bytes, gpu_s, attend_s = differences
        return StepTime(
            total_s=total_s,
            cpu_s=total_s - self.wait_s,
            wait_s=self.wait_s,
            disk_read_s=disk_s,
            read_bytes=read_bytes,
            gpu_s=gpu_s,
            h2d_s=h2d_s,
            h2d_bytes=h2d_bytes,
            attend_s=attend_s,
        )

    def _totals(self) -> tuple[float, ...]:
        disk, h2d = self._resources.links["disk_read"], self._resources.links["h2d"]
        gpu_s, host = self._resources.processor.busy_s, self._resources.host
        return (
            *(disk.busy_s, disk.moved_bytes.total()),
            *(h2d.busy_s, h2d.moved_bytes.total()),
            *(gpu_s, host.busy_s if host else 0.0),
        )
