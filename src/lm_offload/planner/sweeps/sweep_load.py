"""What the resources have to do in one sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from lm_offload.planner.sweeps.expert_time import LayerExperts
from lm_offload.planner.sweeps.kv_reads import LayerReads
from lm_offload.schedule.task import Task
from lm_offload.step_time import StepTime


@dataclass(frozen=True)
class SweepLoad:
    """Seconds of one sweep: of each unit on the CPU, of the read of each streamed unit.

    `kv` are the reads and writes of units whose KV cache lies on disk.
    """

    compute_s: Sequence[float]
    read_s: Mapping[int, float]
    overhead_s: float
    read_bytes: float
    kv: Mapping[int, LayerReads] = field(default_factory=dict)
    experts: Mapping[int, LayerExperts] = field(default_factory=dict)  # by unit: their router
    idle_s: float = 0.0  # more of a read that finds the disk idle: its readers are asleep
    behind_s: float = 0.0  # that the first unit waits at most for blocks that are in flight

    @property
    def cpu_s(self) -> float:
        """Seconds of all units."""
        return sum(self.compute_s) + sum(layer.compute_s for layer in self.experts.values())

    @property
    def disk_s(self) -> float:
        """Seconds of all reads."""
        weights_s = sum(self.read_s.values()) + sum(layer.read_s for layer in self.experts.values())
        return weights_s + sum(layer.read_s for layer in self.kv.values())

    @property
    def write_s(self) -> float:
        """Seconds of all writes."""
        return sum(layer.write_s for layer in self.kv.values())

    @property
    def fill_s(self) -> float:
        """Enough to fill the ring of weights."""
        return sum(self.read_s.values())

    def transfer_s(self, task: Task) -> float:
        """Seconds of a read of weights."""
        return self.read_s[task.id.unit]

    @property
    def counts(self) -> Sequence[int]:
        """One compute task stands for all micro-batches of a unit."""
        return [1] * len(self.compute_s)

    def task_s(self, task: Task) -> float:
        """Seconds of a compute task."""
        return self.compute_s[task.id.unit]

    @property
    def kv_read_bytes(self) -> float:
        """Of the cache, where it lies on disk."""
        return sum(layer.read_bytes for layer in self.kv.values())

    def step_time(self, total_s: float) -> StepTime:
        """The record of a sweep that took `total_s`."""
        sums = SweepSums(total_s, self.cpu_s, self.overhead_s, self.disk_s, self.kv_read_bytes)
        return sums.step_time(self.read_bytes)


class SweepSums(NamedTuple):
    """Seconds of a sweep and of what is done in it, bytes of the cache that it reads."""

    total_s: float
    cpu_s: float
    overhead_s: float
    disk_s: float
    kv_read_bytes: float = 0.0

    def step_time(self, weight_bytes: float) -> StepTime:
        """The record of the sweep, which reads so many bytes of weights."""
        wait_s = max(self.total_s - self.cpu_s - self.overhead_s, 0.0)
        read_bytes, kv_bytes = weight_bytes + self.kv_read_bytes, self.kv_read_bytes
        return StepTime(self.total_s, self.cpu_s, wait_s, self.disk_s, read_bytes, kv_bytes)
