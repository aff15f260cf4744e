"""Seconds of sweeps in which the CPU computes units where they lie, beside a device.

::

    units    = max(device, CPU, (device + CPU) / micro-batches + round trips of hidden states)
    uploads  = those of all other units
    CPU      = (1 + link / memory) times as slow while anything is uploaded, as both read memory

A hidden state that comes back waits for the blocks of weights that are on the link. Sweeps of more
rows upload the same units; after one of these the rings fill anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, cast

from lm_offload.planner.device_memory import upload_block_bytes
from lm_offload.planner.device_time import DeviceSweepLoad, DeviceSweepTimes
from lm_offload.planner.host_load import MOST_COUNTED
from lm_offload.planner.in_place_recurrence import Programs, in_place_sweep_seconds
from lm_offload.planner.sweep_load import SweepLoad
from lm_offload.planner.sweep_shape import SweepShape
from lm_offload.planner.unit_work import F32_BYTES
from lm_offload.schedule.device_sweep import Transfers
from lm_offload.schedule.in_place import NOTHING, InPlace
from lm_offload.schedule.task import Task
from lm_offload.step_time import StepTime

BLOCKS_AHEAD = 1.5  # of two on the link, that a copy finds before it in the mean
NOWHERE = InPlace()


@dataclass(frozen=True)
class InPlaceSweepLoad(DeviceSweepLoad):
    """Seconds of a small sweep; `compute_s` is 0 for units that the CPU computes.

    Where `host` attends, it does so in other units.
    """

    micro_batches: Sequence[int] = ()  # tasks of each unit
    in_place_s: Mapping[int, float] = field(default_factory=dict)  # of each of these units
    down_s: float = 0.0  # hidden states of one micro-batch
    up_s: float = 0.0

    @property
    def rows_s(self) -> float:
        """All units, if neither ring holds anything up."""
        host = self.host
        cpu_s = sum(self.in_place_s.values()) + (host.attend_s if host else 0.0)
        alone_s = (self.cpu_s + cpu_s) / max(self.micro_batches)
        trips = sum(unit - 1 not in self.in_place_s for unit in self.in_place_s)
        trips_s = trips * (self.down_s + self.up_s)
        return max(host.steady_s(self.cpu_s) if host else 0.0, cpu_s, alone_s + trips_s)

    @property
    def counts(self) -> Sequence[int]:
        """A few where there are several micro-batches, which take turns."""
        return self.micro_batches

    def task_s(self, task: Task) -> float:
        """Seconds of a task on the rows of a unit."""
        kind, unit = task.id.kind, task.id.unit
        if kind == "download_hidden":
            return self.down_s
        if kind == "upload_hidden":
            return self.up_s
        if unit in self.in_place_s:
            return self.in_place_s[unit] / self.micro_batches[unit]
        if self.host is not None:
            return super().task_s(task)
        return self.compute_s[unit] / self.micro_batches[unit]

    def step_time(self, total_s: float) -> StepTime:
        """The record of a sweep that took `total_s`."""
        time = super().step_time(total_s)
        return replace(time, attend_s=time.attend_s + sum(self.in_place_s.values()))


@dataclass(frozen=True)
class InPlaceSweepTimes(DeviceSweepTimes):
    """Times of one way to run a model with units in place, at `host_costs`."""

    in_place: InPlace = NOWHERE
    programs: Programs = field(default_factory=dict, compare=False, repr=False)

    def load(self, shape: SweepShape) -> DeviceSweepLoad:
        """What the resources have to do in a sweep, small or large."""
        units = self.in_place.of(shape.rows)
        load = self._load(shape, self.on_host - units)
        return self._small(load, shape, units) if units else load

    def steady_s(self, shape: SweepShape) -> float:
        """Seconds of `steady`; where nothing is in place from sums, which is faster."""
        small = bool(self.in_place.of(shape.rows))
        return self.steady(shape).total_s if small else super().steady_s(shape)

    def _small(
        self, load: DeviceSweepLoad, shape: SweepShape, units: frozenset[int]
    ) -> InPlaceSweepLoad:
        upload_s = {unit: s for unit, s in load.upload_s.items() if unit not in units}
        micro_batches, rows = self._micro_batches(load, shape)
        hidden_bytes = rows * self.costs.model.config.hidden_size * F32_BYTES
        down, up = self.profile.d2h or self.profile.h2d, self.profile.h2d
        assert down is not None
        assert up is not None
        compute_s = [0.0 if unit in units else s for unit, s in enumerate(load.compute_s)]
        moved = sum(size for unit, size in self.uploaded_bytes.items() if unit not in units)
        return InPlaceSweepLoad(
            **{
                **_values(load),
                "compute_s": compute_s,
                "upload_s": upload_s,
                "upload_bytes": moved,
            },
            micro_batches=micro_batches,
            in_place_s=self._in_place_s(load, shape, units, bool(upload_s)),
            down_s=down.transfer_s(hidden_bytes),
            up_s=up.transfer_s(hidden_bytes) + (self._blocks_s if upload_s else 0.0),
        )

    def _micro_batches(self, load: DeviceSweepLoad, shape: SweepShape) -> tuple[Sequence[int], int]:
        """Tasks of each unit that are counted, and the rows of one."""
        most = self._most(load)
        tasks = min(-(-shape.rows // most), MOST_COUNTED)
        kinds = [sized.unit.kind for sized in self.costs.model.units]
        counts = [1 if kind in ("final_norm", "head") else tasks for kind in kinds]
        return counts, -(-shape.rows // tasks)

    def _most(self, load: DeviceSweepLoad) -> int:
        return load.host.most_rows if load.host else self.micro_batch_tokens

    def _in_place_s(
        self, load: DeviceSweepLoad, shape: SweepShape, units: frozenset[int], uploads: bool
    ) -> dict[int, float]:
        assert self.host_costs is not None
        seconds = self.host_costs.unit_s(shape, self._most(load))
        slower = 1.0 + (self._link_bytes_per_s / self._memory_bytes_per_s if uploads else 0.0)
        return {unit: slower * seconds[unit] for unit in sorted(units)}

    def simulated_s(self, loads: Sequence[SweepLoad]) -> list[float]:
        """Seconds of sweeps that follow one another, both rings filled before."""
        rings = self.ring_bytes, self.device_ring_bytes
        transfers = Transfers(self.streamed_bytes, self.uploaded_bytes, *rings)
        in_place = [*map(_units_of, loads)]
        known = cast("Sequence[DeviceSweepLoad]", loads)
        return in_place_sweep_seconds(known, in_place, transfers, self.on_host, self.programs)

    @cached_property
    def _link_bytes_per_s(self) -> float:
        link = self.profile.h2d
        assert link is not None
        return link.bytes_per_s.at(link.block_bytes or max(self.uploaded_bytes.values(), default=1))

    @property
    def _memory_bytes_per_s(self) -> float:
        return self.profile.cpu.memory_bytes_per_s

    @cached_property
    def _blocks_s(self) -> float:
        link = self.profile.h2d
        assert link is not None
        block_bytes = upload_block_bytes(self.costs.model, link.block_bytes)
        return BLOCKS_AHEAD * block_bytes / self._link_bytes_per_s


def times_in_place(
    times: DeviceSweepTimes, units: frozenset[int], most_rows: int, programs: Programs
) -> InPlaceSweepTimes:
    """The same sweeps where the CPU computes `units` in those of at most `most_rows` rows."""
    where = InPlace(units, most_rows)
    return InPlaceSweepTimes(**_values(times), in_place=where, programs=programs)


def _units_of(load: SweepLoad) -> frozenset[int]:
    return frozenset(load.in_place_s) if isinstance(load, InPlaceSweepLoad) else NOTHING


def _values(record: DeviceSweepLoad | DeviceSweepTimes) -> dict[str, Any]:
    return {item.name: getattr(record, item.name) for item in fields(record)}
