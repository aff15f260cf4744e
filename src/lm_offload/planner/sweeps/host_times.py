"""What a device computes of a sweep, and what the CPU does beside it, each way over the link."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lm_offload.planner.costs.sweep_shape import SweepShape
from lm_offload.planner.costs.unit_cost import UnitCosts
from lm_offload.planner.lazy import lazy
from lm_offload.planner.sweeps.host_load import (
    HostLoad,
    beside_s,
    counted_tasks,
    host_load,
    project_frac,
    round_trip_s,
)
from lm_offload.planner.sweeps.link_times import LinkTimes
from lm_offload.planner.sweeps.read_times import least_of_neighbours
from lm_offload.planner.sweeps.sweep_time import EMBED
from lm_offload.planner.sweeps.written_back import are_whole_prompts
from lm_offload.schedule.host_attention import most_rows


@dataclass(frozen=True)
class HostTimes(LinkTimes):
    """Sweeps in whose units `on_host` the CPU attends."""

    host_costs: UnitCosts | None = None  # of the CPU, where that attends
    on_host: frozenset[int] = frozenset()  # units in which it does
    prompts_here: bool = False  # whole prompts are attended to on the device, then written back

    def _is_here(self, shape: SweepShape) -> bool:
        return self.prompts_here and are_whole_prompts(shape)

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

    def _link_s(self, shape: SweepShape) -> float:
        """All uploads of a sweep."""
        return self._undisturbed_link_s

    def _uploaded_compute_s(self, shape: SweepShape) -> float:
        """What uploaded units take of the device."""
        compute_s = self._compute_beside_s(shape, self.on_host)
        if not self.rows_in_memory:
            compute_s[EMBED] += self._rows_of_table_s(shape)
        return sum(map(compute_s.__getitem__, self.uploaded))

    def _in_ring_s(self, shape: SweepShape) -> float:
        """What uploaded units take at least from upload to release, one after the other."""
        device_s, on_host = self._uploaded_compute_s(shape), self.uploaded & self._attending(shape)
        if not on_host or self.host_costs is None:
            return device_s
        most = most_rows(shape.rows, self.micro_batch_tokens)
        tasks = counted_tasks(shape, most)
        attend_s = self.host_costs.sum_of_attention_s(on_host, shape, most)
        link_s = len(on_host) * (sum(self._round_trip_s(shape, tasks)) + self._wait_s(shape))
        return max(device_s, device_s / tasks + attend_s + link_s)

    def _attending(self, shape: SweepShape) -> frozenset[int]:
        """Units in which the CPU attends and does no more."""
        return self.on_host

    def _holds_one(self, shape: SweepShape) -> bool:
        """Whether the device's ring never holds two units."""
        return self.device_ring_bytes < least_of_neighbours(self.uploaded_bytes)

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
        return beside_s(device_s + gather_s, attend_s, tasks, self.trips_s(shape))

    def _wait_s(self, shape: SweepShape) -> float:
        """Of a copy from the CPU, for blocks of uploads."""
        return self._blocks_s if self.uploaded else 0.0

    def _back_s(self, shape: SweepShape) -> float:
        """All copies from the CPU."""
        if not self.on_host:
            return 0.0
        tasks = counted_tasks(shape, most_rows(shape.rows, self.micro_batch_tokens))
        return len(self.on_host) * tasks * self._round_trip_s(shape, tasks)[1]

    def trips_s(self, shape: SweepShape) -> float:
        """All ways of one micro-batch down and up, waiting for uploads each time."""
        tasks = counted_tasks(shape, most_rows(shape.rows, self.micro_batch_tokens))
        return len(self.on_host) * (sum(self._round_trip_s(shape, tasks)) + self._wait_s(shape))

    def _round_trip_s(self, shape: SweepShape, tasks: int) -> tuple[float, float]:
        """Of one unit and one of so many micro-batches, down and up."""
        return round_trip_s(self.costs.model, -(-shape.rows // tasks), *self._links)

    @lazy
    def _project_frac(self) -> float:
        return project_frac(self.costs.model)


def sum_of(seconds: Sequence[float], units: frozenset[int]) -> float:
    """Of some units."""
    return sum(map(seconds.__getitem__, units))
