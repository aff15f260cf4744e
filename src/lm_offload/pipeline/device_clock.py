"""What a sweep takes of each resource of a device."""

from __future__ import annotations

import time

from lm_offload.pipeline.device_resources import DeviceResources
from lm_offload.step_time import StepTime


class DeviceClock:
    """Sums the seconds of a sweep by resource, with what was moved between the last one and it."""

    def __init__(self, resources: DeviceResources) -> None:
        self._resources = resources
        self._seen = self._totals()
        self._wait_s = 0.0
        self._start_s = time.perf_counter()

    def start(self) -> None:
        """A sweep begins now."""
        self._wait_s = 0.0
        self._start_s = time.perf_counter()

    def add_wait(self, seconds: float) -> None:
        """The launching thread had nothing to do meanwhile."""
        self._wait_s += seconds

    def stop(self) -> StepTime:
        """The record of the sweep, which ends now."""
        total_s = time.perf_counter() - self._start_s
        before, self._seen = self._seen, self._totals()
        differences = (end - start for end, start in zip(self._seen, before, strict=True))
        disk_s, read_bytes, h2d_s, h2d_bytes, gpu_s, attend_s = differences
        return StepTime(
            total_s=total_s,
            cpu_s=total_s - self._wait_s,
            wait_s=self._wait_s,
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
