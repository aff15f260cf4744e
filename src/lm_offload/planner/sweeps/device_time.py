"""Seconds of sweeps over three tiers: disk, link and device side by side.

::

    rings of 2 units or more   sweep = max(reads, uploads + what comes back from the CPU,
                                           computes + overhead + download)
    attention on the CPU       sweep >= its attention, and what of it no micro-batch can hide
    device ring of 1           uploads and the computes of uploaded units one after the other
    staging ring of 1          reads and their uploads one after the other
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

from lm_offload.planner.costs.sweep_shape import SweepShape
from lm_offload.planner.sweeps.device_load import DeviceSums, DeviceSweepLoad
from lm_offload.planner.sweeps.device_recurrence import device_sweep_seconds
from lm_offload.planner.sweeps.host_times import HostTimes
from lm_offload.planner.sweeps.link_disturbance import shared, slower
from lm_offload.planner.sweeps.sweep_load import SweepLoad
from lm_offload.planner.sweeps.written_back import written_back
from lm_offload.schedule.device_sweep import Transfers
from lm_offload.schedule.in_place import NOTHING
from lm_offload.step_time import StepTime


@dataclass(frozen=True)
class DeviceSweepTimes(HostTimes):
    """Times of one way to run a model on a device; `costs` are those of its processor."""

    def load(self, shape: SweepShape) -> DeviceSweepLoad:
        """What the resources have to do in a sweep, as slow as they make one another."""
        if self._is_here(shape):
            return self._disturbed(self._written_back(shape))
        return self._disturbed(self._load(shape, self.on_host))

    def _written_back(self, shape: SweepShape) -> DeviceSweepLoad:
        assert self.host_costs is not None
        load, most, down = self._load(shape, NOTHING), self.micro_batch_tokens, self._links[0]
        host = written_back(self.host_costs, shape, most, down, self.on_host)
        return replace(load, host=host)

    def _disturbed(self, load: DeviceSweepLoad) -> DeviceSweepLoad:
        load = load.beside_copies()
        if not self._losses:
            return load
        return load.slowed(slower(load.alone_s, load.rows_s + load.overhead_s, self._losses))

    def _load(self, shape: SweepShape, on_host: frozenset[int]) -> DeviceSweepLoad:
        """The same undisturbed, where the CPU attends in the units `on_host`."""
        compute_s, host = self._split(shape, on_host)
        if not self.rows_in_memory:
            compute_s[0] += self._rows_of_table_s(shape)
        return DeviceSweepLoad(
            compute_s=compute_s,
            read_s=self._undisturbed_reads_s,
            overhead_s=self._overhead_s(shape) + self._download_s(shape),
            read_bytes=sum(self.streamed_bytes.values()),
            upload_s=self._uploads_s,
            upload_bytes=sum(self.uploaded_bytes.values()),
            host=host,
            wait_s=self._wait_s(shape),
        )

    def steady(self, shape: SweepShape) -> StepTime:
        """One of many sweeps alike, without simulation; a little optimistic."""
        load = self.load(shape)
        disk_s, h2d_s = load.disk_s, load.h2d_s
        if not self.reads_ahead:
            disk_s += sum(load.upload_s[unit] for unit in self.streamed)
        if not self.uploads_ahead:
            h2d_s += sum(map(load.compute_s.__getitem__, self.uploaded))
        return load.step_time(max(disk_s, h2d_s, load.rows_s + load.overhead_s))

    def steady_s(self, shape: SweepShape) -> float:
        """Seconds of the same, from sums over units where those are enough, which is faster."""
        if self._is_disturbed(shape):
            return self.steady(shape).total_s
        disk_s, h2d_s, rows_s, overhead_s = self.sums(shape)
        if not self.reads_ahead:
            longer = h2d_s / self._link_s(shape)  # beside what comes back
            disk_s += longer * sum(map(self._uploads_s.__getitem__, self.streamed))
        if not self.uploads_ahead:
            h2d_s += self._uploaded_compute_s(shape)
        return max(disk_s, h2d_s, rows_s + overhead_s)

    @property
    def reads_wait(self) -> bool:
        """Whether a ring holds no unit beside the one that is in use, so that sums say little."""
        return not (self.reads_ahead and self.uploads_ahead)

    def ahead_s(self, shape: SweepShape) -> float:
        """Seconds of a sweep that waits for no ring, or for one that never holds two units."""
        disk_s, h2d_s, rows_s, overhead_s = self.sums(shape)
        if self._holds_one(shape) and not self._is_disturbed(shape):
            h2d_s += self._in_ring_s(shape)
        return max(disk_s, h2d_s, rows_s + overhead_s)

    def sums(self, shape: SweepShape) -> DeviceSums:
        """What the resources have to do in a sweep, over all units together."""
        if self._is_disturbed(shape):
            load = self.load(shape)
            return DeviceSums(load.disk_s, load.h2d_s, load.rows_s, load.overhead_s)
        engine_s = self._overhead_s(shape) + self._download_s(shape)
        disk_s, link_s, rows_s = self._undisturbed_disk_s, self._link_s(shape), self._rows_s(shape)
        link_s *= shared(link_s, self._back_s(shape), max(disk_s, rows_s + engine_s))
        return DeviceSums(disk_s, link_s, rows_s, engine_s)

    def _is_disturbed(self, shape: SweepShape) -> bool:
        """Whether sums are not enough."""
        return self._disturbs or self._is_here(shape)

    def least_s(self, shape: SweepShape) -> float:
        """Seconds of a sweep that waits for no transfer; at least that, where prompts are here."""
        rows_s = self._rows_s(shape)
        if self._is_here(shape):
            rows_s = min(rows_s, self.costs.total_s(shape, self.micro_batch_tokens))
        return rows_s + self._overhead_s(shape) + self._download_s(shape)

    def simulated_s(self, loads: Sequence[SweepLoad]) -> list[float]:
        """Seconds of sweeps that follow one another, both rings filled before."""
        rings = self.ring_bytes, self.device_ring_bytes
        transfers = Transfers(self.streamed_bytes, self.uploaded_bytes, *rings)
        known = cast("Sequence[DeviceSweepLoad]", loads)
        return device_sweep_seconds(known, transfers, self.on_host)

    @property
    def _disturbs(self) -> bool:
        """Whether resources may slow one another."""
        return bool(self._losses) and bool(self.on_host or (self.streamed and self.uploaded))
