"""Seconds of sweeps over three tiers: disk, link and device side by side.

::

    rings of 2 units or more   sweep = max(reads, uploads, computes + overhead + download)
    attention on the CPU       sweep >= its attention, and what of it no micro-batch can hide
    device ring of 1           uploads and the computes of uploaded units one after the other
    staging ring of 1          reads and their uploads one after the other
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import cast

from lm_offload.hardware.profile import Link
from lm_offload.planner.device_recurrence import device_sweep_seconds
from lm_offload.planner.host_load import HostLoad, host_load, host_steady_s, project_frac
from lm_offload.planner.sweep_load import SweepLoad
from lm_offload.planner.sweep_shape import SweepShape
from lm_offload.planner.sweep_time import SweepTimes
from lm_offload.planner.unit_cost import UnitCosts
from lm_offload.schedule.device_sweep import Transfers
from lm_offload.schedule.host_attention import most_rows
from lm_offload.schedule.task import Task
from lm_offload.step_time import StepTime

F32_BYTES = 4


@dataclass(frozen=True)
class DeviceSweepLoad(SweepLoad):
    """Seconds of one sweep: of each unit on the device, of each read and of each upload."""

    upload_s: Mapping[int, float] = field(default_factory=dict)
    upload_bytes: int = 0
    host: HostLoad | None = None  # where the CPU attends

    @property
    def h2d_s(self) -> float:
        """Seconds of all uploads."""
        return sum(self.upload_s.values())

    @property
    def fill_s(self) -> float:
        """Enough to fill both rings."""
        return self.disk_s + self.h2d_s

    def transfer_s(self, task: Task) -> float:
        """Seconds of a read or an upload."""
        return (self.upload_s if task.id.kind == "upload" else self.read_s)[task.id.unit]

    @property
    def rows_s(self) -> float:
        """All units, beside the CPU if that attends."""
        return self.host.steady_s(self.cpu_s) if self.host else self.cpu_s

    @property
    def counts(self) -> Sequence[int]:
        """One for all micro-batches, but a few where the CPU attends to one beside others."""
        return self.host.counts if self.host else super().counts

    @property
    def alone(self) -> int:
        """Leading micro-batches that the CPU has no part in."""
        return self.host.alone if self.host else 0

    def task_s(self, task: Task) -> float:
        """Seconds of a task on the rows of a unit."""
        if self.host is None:
            return super().task_s(task)
        return self.host.task_s(task, self.compute_s[task.id.unit])

    def step_time(self, total_s: float) -> StepTime:
        """The record of a sweep that took `total_s`; the caller waits but for the overhead."""
        return StepTime(
            total_s=total_s,
            cpu_s=min(self.overhead_s, total_s),
            wait_s=max(total_s - self.overhead_s, 0.0),
            disk_read_s=self.disk_s,
            read_bytes=self.read_bytes,
            gpu_s=self.cpu_s,
            h2d_s=self.h2d_s,
            h2d_bytes=self.upload_bytes,
            attend_s=self.host.attend_s if self.host else 0.0,
        )


@dataclass(frozen=True)
class DeviceSweepTimes(SweepTimes):
    """Times of one way to run a model on a device; `costs` are those of its processor."""

    uploaded: frozenset[int] = frozenset()
    device_ring_bytes: int = 0
    host_costs: UnitCosts | None = None  # of the CPU, where that attends
    on_host: frozenset[int] = frozenset()  # units in which it does

    def load(self, shape: SweepShape) -> DeviceSweepLoad:
        """What the resources have to do in a sweep; they are taken not to disturb one another."""
        return self._load(shape, self.on_host)

    def _load(self, shape: SweepShape, on_host: frozenset[int]) -> DeviceSweepLoad:
        """The same where the CPU attends in the units `on_host`."""
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
        )

    def _split(
        self, shape: SweepShape, on_host: frozenset[int]
    ) -> tuple[list[float], HostLoad | None]:
        """What each unit takes of the device, and what the CPU does beside it."""
        most, frac = self.micro_batch_tokens, self._project_frac
        if not on_host:
            return self.costs.unit_s(shape, most), None
        assert self.host_costs is not None
        host = host_load(self.host_costs, shape, most, *self._links, frac, on_host)
        compute_s = self.costs.unit_s(shape, host.most_rows)
        alone_s = self.costs.without_attention_s(shape, host.most_rows)
        for unit in on_host:
            compute_s[unit] = alone_s[unit]
        return compute_s, host

    @property
    def _links(self) -> tuple[Link, Link]:
        """Down and up."""
        down, up = self.profile.d2h or self.profile.h2d, self.profile.h2d
        assert down is not None
        assert up is not None
        return down, up

    def steady(self, shape: SweepShape) -> StepTime:
        """One of many sweeps alike, without simulation; a little optimistic."""
        load = self.load(shape)
        disk_s, h2d_s = load.disk_s, load.h2d_s
        if not self.reads_ahead:
            disk_s += sum(load.upload_s[unit] for unit in self.streamed)
        if not self.uploads_ahead:
            h2d_s += sum(load.compute_s[unit] for unit in self.uploaded)
        return load.step_time(max(disk_s, h2d_s, load.rows_s + load.overhead_s))

    def steady_s(self, shape: SweepShape) -> float:
        """Seconds of the same, from sums over units where those are enough, which is faster."""
        if not self.uploads_ahead:
            return self.steady(shape).total_s
        disk_s, h2d_s = self._undisturbed_disk_s, self._undisturbed_link_s
        if not self.reads_ahead:
            disk_s += sum(map(self._uploads_s.__getitem__, self.streamed))
        return max(disk_s, h2d_s, self.least_s(shape))

    def least_s(self, shape: SweepShape) -> float:
        """Seconds of a sweep that waits for no transfer."""
        return self._rows_s(shape) + self._overhead_s(shape) + self._download_s(shape)

    def _rows_of_table_s(self, shape: SweepShape) -> float:
        """Embedding rows from disk, where units may keep it busy all the time."""
        busy_frac = float(bool(self.streamed))
        return self._gather.seconds(shape.rows, self.micro_batch_tokens, busy_frac)

    def _rows_s(self, shape: SweepShape) -> float:
        """All units, beside the CPU if that attends."""
        gather_s = 0.0
        if not self.rows_in_memory:
            gather_s = self._rows_of_table_s(shape)
        if not self.on_host:
            return self.costs.total_s(shape, self.micro_batch_tokens) + gather_s
        if len(self.on_host) < self.costs.model.config.num_layers:
            compute_s, host = self._split(shape, self.on_host)
            assert host is not None
            return host.steady_s(sum(compute_s) + gather_s)
        assert self.host_costs is not None
        most = most_rows(shape.rows, self.micro_batch_tokens)
        device_s = self.costs.total_without_attention_s(shape, most) + gather_s
        return host_steady_s(self.host_costs, shape, most, *self._links, device_s)

    def simulated_s(self, loads: Sequence[SweepLoad]) -> list[float]:
        """Seconds of sweeps that follow one another, both rings filled before."""
        rings = self.ring_bytes, self.device_ring_bytes
        transfers = Transfers(self.streamed_bytes, self.uploaded_bytes, *rings)
        known = cast("Sequence[DeviceSweepLoad]", loads)
        return device_sweep_seconds(known, transfers, self.on_host)

    @cached_property
    def _project_frac(self) -> float:
        return project_frac(self.costs.model)

    @cached_property
    def uploaded_bytes(self) -> dict[int, int]:
        """What is copied of which units, in order of use."""
        return {unit: self.costs.model.units[unit].size_bytes for unit in sorted(self.uploaded)}

    @property
    def uploads_ahead(self) -> bool:
        """Whether the device's ring holds a unit that is uploaded beside one that is computed."""
        return self.device_ring_bytes >= 2 * max(self.uploaded_bytes.values(), default=0)

    @cached_property
    def _uploads_s(self) -> dict[int, float]:
        _, link = self._links
        seconds = {size: link.transfer_s(size) for size in {*self.uploaded_bytes.values()}}
        return {unit: seconds[size] for unit, size in self.uploaded_bytes.items()}

    @cached_property
    def _undisturbed_link_s(self) -> float:
        return sum(self._uploads_s.values())

    def _download_s(self, shape: SweepShape) -> float:
        return self._links[0].transfer_s(
            shape.logit_rows * self.costs.model.config.vocab_size * F32_BYTES
        )


def times_on_device(
    times: SweepTimes,
    uploaded: frozenset[int],
    device_ring_bytes: int,
    host_costs: UnitCosts | None = None,
    on_host: frozenset[int] = frozenset(),
) -> DeviceSweepTimes:
    """The same sweeps where a device computes and `uploaded` units are copied to it.

    `host_costs` are the CPU's, which attends in the units `on_host`.
    """
    host = {item.name: getattr(times, item.name) for item in fields(SweepTimes)}
    return DeviceSweepTimes(
        **host,
        uploaded=uploaded,
        device_ring_bytes=device_ring_bytes,
        host_costs=host_costs,
        on_host=on_host,
    )
