"""Times the executor's own task sequence with predicted durations, by list scheduling."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

from lm_offload.schedule.sweep import SweepSchedule
from lm_offload.schedule.task import Task, TaskId

SWEEPS = 3  # the first fills the ring, the last shows the steady state


def steady_sweep_s(
    ring_bytes: int,
    streamed_bytes: Mapping[int, int],
    read_bytes_per_s: float,
    compute_s: Sequence[float],
) -> float:
    """Seconds from the end of one sweep to the end of the next, reads running ahead.

    `compute_s` holds the seconds of each unit, `streamed_bytes` what is read of which units.
    """
    schedule = SweepSchedule(streamed_bytes, ring_bytes)
    timeline = _Timeline(read_bytes_per_s)
    timeline.queue(schedule.reads(0))
    ends = []
    for sweep in range(SWEEPS):
        timeline.queue(schedule.reads(sweep + 1))
        for task in schedule.computes(sweep, [1] * len(compute_s)):
            duration_s = compute_s[task.id.unit] if task.id.kind == "compute" else 0.0
            timeline.compute(task, duration_s)
        ends.append(timeline.cpu_s)
    return ends[-1] - ends[-2]


class _Timeline:
    """When each task ends; the disk and the CPU each work in program order."""

    def __init__(self, read_bytes_per_s: float) -> None:
        self.cpu_s = 0.0
        self._disk_s = 0.0
        self._read_bytes_per_s = read_bytes_per_s
        self._reads: deque[Task] = deque()
        self._ends: dict[TaskId, float] = {}

    def queue(self, reads: Sequence[Task]) -> None:
        """Append reads to the disk's queue."""
        self._reads.extend(reads)

    def compute(self, task: Task, duration_s: float) -> None:
        """Run a task on the CPU, and before it the reads it needs."""
        while any(need not in self._ends for need in task.needs):
            read = self._reads.popleft()
            start_s = max(self._disk_s, self._ready_s(read))
            self._disk_s = start_s + read.size_bytes / self._read_bytes_per_s
            self._ends[read.id] = self._disk_s
        self.cpu_s = max(self.cpu_s, self._ready_s(task)) + duration_s
        self._ends[task.id] = self.cpu_s

    def _ready_s(self, task: Task) -> float:
        return max((self._ends[need] for need in task.needs), default=0.0)
