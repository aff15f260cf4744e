"""What a sweep takes of the CPU and of the disk."""

from __future__ import annotations

import time

from lm_offload.pipeline.disk_queue import DiskQueue
from lm_offload.step_time import StepTime


class SweepClock:
    """Sums the seconds of one sweep by resource, from when it is made."""

    def __init__(self, disk: DiskQueue) -> None:
        self._disk = disk
        self._disk_busy_s = disk.busy_s
        self._read_bytes = disk.moved_bytes.total()
        self._kv_read_bytes = disk.moved_bytes["read_kv"]
        self._cpu_s = 0.0
        self._wait_s = 0.0
        self._start_s = time.perf_counter()

    def add(self, cpu_s: float, wait_s: float) -> None:
        """Count one compute task."""
        self._cpu_s += cpu_s
        self._wait_s += wait_s

    def stop(self) -> StepTime:
        """The record of the sweep, which ends now."""
        moved_bytes = self._disk.moved_bytes
        return StepTime(
            total_s=time.perf_counter() - self._start_s,
            cpu_s=self._cpu_s,
            wait_s=self._wait_s,
            disk_read_s=self._disk.busy_s - self._disk_busy_s,
            read_bytes=moved_bytes.total() - self._read_bytes,
            kv_read_bytes=moved_bytes["read_kv"] - self._kv_read_bytes,
        )
