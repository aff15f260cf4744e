"""Seconds of sweeps: units on the CPU, streamed units on the disk beside it.

::

    ring of 2 units or more   sweep = max(reads, computes + overhead)
    ring of 1                 sweep = max(reads, computes of resident units + overhead)
                                      + computes of streamed units

The simulation of the executor's own tasks has the last word; this form gives the search its speed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from lm_offload.hardware.profile import HardwareProfile
from lm_offload.plan import StepTime
from lm_offload.planner.disk_cost import read_s
from lm_offload.planner.disturbance import disturbance
from lm_offload.planner.gather_cost import GatherCost
from lm_offload.planner.sweep_shape import SweepShape
from lm_offload.planner.sweep_simulation import sweep_seconds
from lm_offload.planner.unit_cost import UnitCosts
from lm_offload.schedule.task import Task


@dataclass(frozen=True)
class SweepLoad:
    """Seconds of one sweep: of each unit on the CPU, of the read of each streamed unit."""

    compute_s: Sequence[float]
    read_s: Mapping[int, float]
    overhead_s: float
    read_bytes: int

    @property
    def cpu_s(self) -> float:
        """Seconds of all units."""
        return sum(self.compute_s)

    @property
    def disk_s(self) -> float:
        """Seconds of all reads."""
        return sum(self.read_s.values())

    @property
    def fill_s(self) -> float:
        """Enough to fill the ring."""
        return self.disk_s

    def transfer_s(self, task: Task) -> float:
        """Seconds of a read."""
        return self.read_s[task.id.unit]

    def step_time(self, total_s: float) -> StepTime:
        """The record of a sweep that took `total_s`."""
        wait_s = max(total_s - self.cpu_s - self.overhead_s, 0.0)
        return StepTime(total_s, self.cpu_s, wait_s, self.disk_s, self.read_bytes)


@dataclass(frozen=True)
class SweepTimes:
    """Times of one way to run a model: what is streamed, how rows are cut."""

    costs: UnitCosts
    profile: HardwareProfile
    streamed: frozenset[int]
    ring_bytes: int
    micro_batch_tokens: int
    rows_in_memory: bool  # embedding rows, which are read from disk otherwise
    read_block_bytes: int
    read_concurrency: int

    @cached_property
    def streamed_bytes(self) -> dict[int, int]:
        """What is read of which units, in order of use."""
        return {unit: self.costs.model.units[unit].size_bytes for unit in sorted(self.streamed)}

    @property
    def reads_ahead(self) -> bool:
        """Whether the ring holds a unit that is read beside one that is computed."""
        return self.ring_bytes >= 2 * max(self.streamed_bytes.values(), default=0)

    def load(self, shape: SweepShape) -> SweepLoad:
        """What the resources have to do in a sweep, as slow as they make one another."""
        compute_s = self.costs.unit_s(shape, self.micro_batch_tokens)
        reads_s = self._undisturbed_reads_s
        found = disturbance(sum(compute_s), sum(reads_s.values()), self.profile.interference)
        if not self.rows_in_memory:
            embed = 0  # the first unit
            compute_s[embed] += self._gather.seconds(shape.rows, found.disk_busy_frac)
        return SweepLoad(
            [seconds * found.slower_cpu for seconds in compute_s],
            {unit: seconds * found.slower_disk for unit, seconds in reads_s.items()},
            self._overhead_s(shape),
            sum(self.streamed_bytes.values()),
        )

    def steady(self, shape: SweepShape) -> StepTime:
        """One of many sweeps alike, without simulation; a little optimistic."""
        load = self.load(shape)
        alone_s = 0.0
        if not self.reads_ahead:  # the next read waits until the streamed unit was computed
            alone_s = sum(load.compute_s[unit] for unit in self.streamed)
        beside_s = load.cpu_s - alone_s + load.overhead_s
        return load.step_time(max(load.disk_s, beside_s) + alone_s)

    def simulated_s(self, loads: Sequence[SweepLoad]) -> list[float]:
        """Seconds of sweeps that follow one another, by the executor's own tasks."""
        return sweep_seconds(loads, self.streamed_bytes, self.ring_bytes)

    @cached_property
    def _undisturbed_reads_s(self) -> dict[int, float]:
        link, block_bytes = self.profile.disk_read, self.read_block_bytes
        return {unit: read_s(link, size, block_bytes) for unit, size in self.streamed_bytes.items()}

    @cached_property
    def _gather(self) -> GatherCost:
        queue_bytes = self.read_block_bytes * self.read_concurrency
        return GatherCost(self.costs.model.config, self.profile.disk_read, queue_bytes)

    def _overhead_s(self, shape: SweepShape) -> float:
        """What the engine itself takes beside its tasks, sampling included."""
        cpu, vocab_size = self.profile.cpu, self.costs.model.config.vocab_size
        sampled_s = 0.0
        if cpu.sampled_values_per_s:
            sampled_s = shape.logit_rows * vocab_size / cpu.sampled_values_per_s
        return cpu.sweep_s + shape.sequences * cpu.sequence_s + sampled_s
