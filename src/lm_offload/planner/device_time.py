"""Seconds of sweeps over three tiers: disk, link and device side by side.

::

    rings of 2 units or more   sweep = max(reads, uploads, computes + overhead + download)
    attention on the CPU       sweep >= its attention, and what of it no micro-batch can hide
    device ring of 1           uploads and the computes of uploaded units one after the other
    staging ring of 1          reads and their uploads one after the other
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

from lm_offload.planner.device_load import DeviceSums, DeviceSweepLoad
from lm_offload.planner.device_recurrence import device_sweep_seconds
from lm_offload.planner.host_load import (
    HostLoad,
    beside_s,
    counted_tasks,
    host_load,
    project_frac,
    round_trip_s,
)
from lm_offload.planner.lazy import lazy
from lm_offload.planner.link_disturbance import slower
from lm_offload.planner.link_times import LinkTimes
from lm_offload.planner.sweep_load import SweepLoad
from lm_offload.planner.sweep_shape import SweepShape
from lm_offload.planner.sweep_time import EMBED
from lm_offload.planner.unit_cost import UnitCosts
from lm_offload.planner.written_back import are_whole_prompts, written_back
from lm_offload.schedule.device_sweep import Transfers
from lm_offload.schedule.host_attention import most_rows
from lm_offload.schedule.in_place import NOTHING
from lm_offload.step_time import StepTime


@dataclass(frozen=True)
class DeviceSweepTimes(LinkTimes):
    """Times of one way to run a model on a device; `costs` are those of its processor."""

    host_costs: UnitCosts | None = None  # of the CPU, where that attends
    on_host: frozenset[int] = frozenset()  # units in which it does
    prompts_here: bool = False  # whole prompts are attended to on the device, then written back

    def load(self, shape: SweepShape) -> DeviceSweepLoad:
        """What the resources have to do in a sweep, as slow as they make one another."""
        if self._is_here(shape):
            return self._disturbed(self._written_back(shape))
        return self._disturbed(self._load(shape, self.on_host))

    def _is_here(self, shape: SweepShape) -> bool:
        return self.prompts_here and are_whole_prompts(shape)

    def _written_back(self, shape: SweepShape) -> DeviceSweepLoad:
        assert self.host_costs is not None
        load, most, down = self._load(shape, NOTHING), self.micro_batch_tokens, self._links[0]
        host = written_back(self.host_costs, shape, most, down, self.on_host)
        return replace(load, host=host)

    def _disturbed(self, load: DeviceSweepLoad) -> DeviceSweepLoad:
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
        )

    def _split(
        self, shape: SweepShape, on_host: frozenset[int]
    ) -> tuple[list[float], HostLoad | None]:
        """What each unit takes of the device, and what the CPU does beside it."""
        compute_s = self._compute_beside_s(shape, on_host)
        if not on_host:
            return compute_s, None
        assert self.host_costs is not None
        most, frac = self.micro_batch_tokens, self._project_frac
        return compute_s, host_load(self.host_costs, shape, most, *self._links, frac, on_host)

    def _compute_beside_s(self, shape: SweepShape, on_host: frozenset[int]) -> list[float]:
        """What each unit takes of the device, where the CPU attends in the units `on_host`."""
        if not on_host:
            return self.costs.unit_s(shape, self.micro_batch_tokens)
        most = most_rows(shape.rows, self.micro_batch_tokens)
        compute_s = self.costs.unit_s(shape, most)
        alone_s = self.costs.without_attention_s(shape, most)
        for unit in on_host:
            compute_s[unit] = alone_s[unit]
        return compute_s

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
            disk_s += sum(map(self._uploads_s.__getitem__, self.streamed))
        if not self.uploads_ahead:
            h2d_s += self._uploaded_compute_s(shape)
        return max(disk_s, h2d_s, rows_s + overhead_s)

    def sums(self, shape: SweepShape) -> DeviceSums:
        """What the resources have to do in a sweep, over all units together."""
        if self._is_disturbed(shape):
            load = self.load(shape)
            return DeviceSums(load.disk_s, load.h2d_s, load.rows_s, load.overhead_s)
        engine_s = self._overhead_s(shape) + self._download_s(shape)
        moved_s = self._undisturbed_disk_s, self._link_s(shape)
        return DeviceSums(*moved_s, self._rows_s(shape), engine_s)

    def _is_disturbed(self, shape: SweepShape) -> bool:
        """Whether sums are not enough."""
        return self._disturbs or self._is_here(shape)

    def _link_s(self, shape: SweepShape) -> float:
        """All uploads of a sweep."""
        return self._undisturbed_link_s

    def _uploaded_compute_s(self, shape: SweepShape) -> float:
        """What uploaded units take of the device."""
        compute_s = self._compute_beside_s(shape, self.on_host)
        if not self.rows_in_memory:
            compute_s[EMBED] += self._rows_of_table_s(shape)
        return sum(map(compute_s.__getitem__, self.uploaded))

    def least_s(self, shape: SweepShape) -> float:
        """Seconds of a sweep that waits for no transfer; at least that, where prompts are here."""
        rows_s = self._rows_s(shape)
        if self._is_here(shape):
            rows_s = min(rows_s, self.costs.total_s(shape, self.micro_batch_tokens))
        return rows_s + self._overhead_s(shape) + self._download_s(shape)

    def _rows_of_table_s(self, shape: SweepShape) -> float:
        """Embedding rows from disk, where units may keep it busy all the time."""
        busy_frac = float(bool(self.streamed))
        return self._gather.apart_s(shape.rows, self.micro_batch_tokens, busy_frac)

    def _rows_s(self, shape: SweepShape) -> float:
        """All units, beside the CPU if that attends."""
        gather_s = 0.0 if self.rows_in_memory else self._rows_of_table_s(shape)
        if not self.on_host:
            return self.costs.total_s(shape, self.micro_batch_tokens) + gather_s
        assert self.host_costs is not None
        most, on_host = most_rows(shape.rows, self.micro_batch_tokens), self.on_host
        if len(on_host) == self.costs.model.config.num_layers:
            device_s = self.costs.total_without_attention_s(shape, most)
            attend_s = self.host_costs.total_attention_s(shape, most)
        else:
            own_s = self.costs.sum_of_attention_s(on_host, shape, most)
            device_s = self.costs.total_s(shape, most) - own_s
            attend_s = self.host_costs.sum_of_attention_s(on_host, shape, most)
        tasks = counted_tasks(shape, most)
        trip_s = sum(round_trip_s(self.costs.model, -(-shape.rows // tasks), *self._links))
        return beside_s(device_s + gather_s, attend_s, tasks, len(on_host) * trip_s)

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

    @lazy
    def _project_frac(self) -> float:
        return project_frac(self.costs.model)


def sum_of(seconds: Sequence[float], units: frozenset[int]) -> float:
    """Of some units."""
    return sum(map(seconds.__getitem__, units))
