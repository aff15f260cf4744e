"""Seconds of sweeps in which the CPU computes units where they lie, beside a device.

::

    units    = max(device, CPU, (device + CPU) / micro-batches + round trips)
    uploads  = those of all other units
    CPU      = slower while anything is uploaded: as measured, or by 1 + link / memory

A hidden state that comes back waits for the blocks of weights that are on the link. Sweeps of more
rows upload the same units; after one of these the rings fill anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

from lm_offload.planner.costs.sweep_shape import SweepShape
from lm_offload.planner.costs.unit_work import F32_BYTES
from lm_offload.planner.lazy import lazy
from lm_offload.planner.sweeps.device_load import DeviceSweepLoad
from lm_offload.planner.sweeps.device_time import DeviceSweepTimes
from lm_offload.planner.sweeps.host_load import beside_s, counted_tasks
from lm_offload.planner.sweeps.host_times import sum_of
from lm_offload.planner.sweeps.in_place_load import InPlaceSweepLoad
from lm_offload.planner.sweeps.in_place_recurrence import Programs, in_place_sweep_seconds
from lm_offload.planner.sweeps.link_disturbance import compute_loss
from lm_offload.planner.sweeps.read_times import least_of_neighbours
from lm_offload.planner.sweeps.sweep_load import SweepLoad
from lm_offload.planner.sweeps.sweep_time import EMBED
from lm_offload.planner.values import values_of
from lm_offload.schedule.device_sweep import Transfers
from lm_offload.schedule.host_attention import most_rows
from lm_offload.schedule.in_place import NOTHING, InPlace

NOWHERE = InPlace()


@dataclass(frozen=True)
class InPlaceSweepTimes(DeviceSweepTimes):
    """Times of one way to run a model with units in place, at `host_costs`."""

    in_place: InPlace = NOWHERE
    programs: Programs = field(default_factory=dict, compare=False, repr=False)

    def load(self, shape: SweepShape) -> DeviceSweepLoad:
        """What the resources have to do in a sweep, small or large."""
        units = self.in_place.of(shape.rows)
        load = self._load(shape, self._attended if units else self.on_host)
        return self._disturbed(self._small(load, shape, units) if units else load)

    def _is_disturbed(self, shape: SweepShape) -> bool:
        """Whether sums are not enough."""
        if self.in_place.of(shape.rows):
            return bool(self._losses)
        return super()._is_disturbed(shape)

    def _link_s(self, shape: SweepShape) -> float:
        """All uploads of a sweep."""
        return self._moved_s if self.in_place.of(shape.rows) else super()._link_s(shape)

    def _uploaded_compute_s(self, shape: SweepShape) -> float:
        """What uploaded units take of the device."""
        units = self.in_place.of(shape.rows)
        if not units:
            return super()._uploaded_compute_s(shape)
        compute_s = self._compute_beside_s(shape, self._attended)
        if not self.rows_in_memory:
            compute_s[EMBED] += self._rows_of_table_s(shape)
        return sum_of(compute_s, self.uploaded - units)

    def _rows_s(self, shape: SweepShape) -> float:
        """All units, if neither ring holds anything up."""
        units = self.in_place.of(shape.rows)
        return self._small_rows_s(shape, units) if units else super()._rows_s(shape)

    def _small_rows_s(self, shape: SweepShape, units: frozenset[int]) -> float:
        """As `InPlaceSweepLoad.rows_s`."""
        assert self.host_costs is not None
        on_host, most = self._attended, self.micro_batch_tokens
        most = most_rows(shape.rows, most) if on_host else most
        tasks = counted_tasks(shape, most)
        rows, uploads = -(-shape.rows // tasks), self._moved_s > 0
        device_s = self._device_rows_s(shape, most, units, on_host)
        in_place_s = self._slower(uploads) * self.host_costs.sum_of_s(units, shape, most)
        attend_s = self.host_costs.sum_of_attention_s(on_host, shape, most)
        link_s = (self._trips + len(on_host)) * self._wait_s(shape)
        link_s += self._trips * sum(self._trip_s(rows))
        link_s += len(on_host) * sum(self._round_trip_s(shape, tasks))
        return beside_s(device_s, in_place_s + attend_s, tasks, link_s)

    def _device_rows_s(
        self, shape: SweepShape, most: int, units: frozenset[int], on_host: frozenset[int]
    ) -> float:
        """All units but those in place, without attention of those `on_host`."""
        own_s = self.costs.total_s(shape, most) - self.costs.sum_of_s(units, shape, most)
        gather_s = 0.0 if self.rows_in_memory else self._rows_of_table_s(shape)
        return own_s - self.costs.sum_of_attention_s(on_host, shape, most) + gather_s

    @lazy
    def _attended(self) -> frozenset[int]:
        """Units on the device in a small sweep, in which the CPU attends."""
        return self.on_host - self.in_place.units

    @lazy
    def _trips(self) -> int:
        """Of hidden states, in a small sweep."""
        units = self.in_place.units
        return sum(unit - 1 not in units for unit in units)

    @lazy
    def _moved_s(self) -> float:
        """Uploads of a small sweep."""
        return self._link_s_of(self.uploaded - self.in_place.units)

    def _small(
        self, load: DeviceSweepLoad, shape: SweepShape, units: frozenset[int]
    ) -> InPlaceSweepLoad:
        upload_s = {unit: s for unit, s in load.upload_s.items() if unit not in units}
        micro_batches, rows = self._micro_batches(load, shape)
        down_s, up_s = self._trip_s(rows)
        compute_s = [0.0 if unit in units else s for unit, s in enumerate(load.compute_s)]
        moved = sum(map(self.uploaded_bytes.__getitem__, upload_s))
        return InPlaceSweepLoad(
            **{
                **values_of(load, DeviceSweepLoad),
                "compute_s": compute_s,
                "upload_s": upload_s,
                "upload_bytes": moved,
            },
            micro_batches=micro_batches,
            in_place_s=self._in_place_s(load, shape, units, bool(upload_s)),
            down_s=down_s,
            up_s=up_s,
        )

    def _attending(self, shape: SweepShape) -> frozenset[int]:
        """Units in which the CPU attends and does no more."""
        return self._attended if self.in_place.of(shape.rows) else self.on_host

    def _holds_one(self, shape: SweepShape) -> bool:
        """Whether the device's ring never holds two units."""
        moved = self.uploaded - self.in_place.of(shape.rows)
        return self.device_ring_bytes < least_of_neighbours(self.costs.model.sizes_of(moved))

    def _wait_s(self, shape: SweepShape) -> float:
        """Of a copy from the CPU, for blocks of uploads."""
        if self.in_place.of(shape.rows) and not self._moved_s:
            return 0.0
        return super()._wait_s(shape)

    def _back_s(self, shape: SweepShape) -> float:
        """All copies from the CPU."""
        if not self.in_place.of(shape.rows):
            return super()._back_s(shape)
        on_host, most = self._attended, self.micro_batch_tokens
        tasks = counted_tasks(shape, most_rows(shape.rows, most) if on_host else most)
        back_s = self._trips * self._trip_s(-(-shape.rows // tasks))[1]
        return tasks * (back_s + len(on_host) * self._round_trip_s(shape, tasks)[1])

    def _trip_s(self, rows: int) -> tuple[float, float]:
        """Hidden states of a micro-batch, down and up."""
        down, up = self._links
        hidden_bytes = rows * self.costs.model.config.hidden_size * F32_BYTES
        return down.transfer_s(hidden_bytes), up.transfer_s(hidden_bytes)

    def _micro_batches(self, load: DeviceSweepLoad, shape: SweepShape) -> tuple[Sequence[int], int]:
        """Tasks of each unit that are counted, and the rows of one."""
        most = self._most(load)
        tasks = counted_tasks(shape, most)
        counts = [1 if once else tasks for once in self.costs.model.once_in_sweep]
        return counts, -(-shape.rows // tasks)

    def _most(self, load: DeviceSweepLoad) -> int:
        return load.host.most_rows if load.host else self.micro_batch_tokens

    def _in_place_s(
        self, load: DeviceSweepLoad, shape: SweepShape, units: frozenset[int], uploads: bool
    ) -> dict[int, float]:
        assert self.host_costs is not None
        seconds = self.host_costs.unit_s(shape, self._most(load))
        slower = self._slower(uploads)
        return {unit: slower * seconds[unit] for unit in sorted(units)}

    def _slower(self, uploads: bool) -> float:
        """The CPU, beside uploads."""
        return 1.0 + (compute_loss(self.profile, self._link_bytes_per_s) if uploads else 0.0)

    def simulated_s(self, loads: Sequence[SweepLoad]) -> list[float]:
        """Seconds of sweeps that follow one another, both rings filled before."""
        rings = self.ring_bytes, self.device_ring_bytes
        transfers = Transfers(self.streamed_bytes, self.uploaded_bytes, *rings)
        in_place = [*map(_units_of, loads)]
        known = cast("Sequence[DeviceSweepLoad]", loads)
        return in_place_sweep_seconds(known, in_place, transfers, self.on_host, self.programs)


def _units_of(load: SweepLoad) -> frozenset[int]:
    return frozenset(load.in_place_s) if isinstance(load, InPlaceSweepLoad) else NOTHING
