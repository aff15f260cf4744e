"""Seconds of the sweeps of a mixture of experts: its units, and those experts that rows use."""

from __future__ import annotations

from dataclasses import dataclass

from lm_offload.planner.costs.expert_sizes import ExpertPlacement
from lm_offload.planner.costs.sweep_shape import SweepShape
from lm_offload.planner.lazy import lazy
from lm_offload.planner.sweeps.disturbance import disturbance
from lm_offload.planner.sweeps.expert_time import ExpertTimes, LayerExperts
from lm_offload.planner.sweeps.read_times import unit_read_s
from lm_offload.planner.sweeps.sweep_load import SweepLoad, SweepSums
from lm_offload.planner.sweeps.sweep_time import EMBED, SweepTimes
from lm_offload.step_time import StepTime
from lm_offload.storage.blocks import block_bytes_of

NO_RING = ExpertPlacement(frozenset(), 0)


@dataclass(frozen=True)
class MixtureSweepTimes(SweepTimes):
    """As `SweepTimes`; the KV cache lies in memory, and lends nothing."""

    experts: ExpertPlacement = NO_RING

    def load(self, shape: SweepShape) -> SweepLoad:
        """What the resources have to do in a sweep, as slow as they make one another."""
        layer, reads_s = self._layer(shape), self._undisturbed_reads_s
        layers = self.costs.model.config.mixture_layers
        compute_s = self.costs.unit_s(shape, self.micro_batch_tokens)
        cpu_s = sum(compute_s) + layers * layer.compute_s
        disk_s = sum(reads_s.values()) + layers * layer.read_s
        found = disturbance(cpu_s, disk_s, self.profile.interference)
        compute_s = [seconds * found.slower_cpu for seconds in compute_s]
        compute_s[EMBED] += self._gather_s(shape, found)
        layer = layer.slower(found.slower_cpu, found.slower_disk)
        return SweepLoad(
            compute_s,
            {unit: seconds * found.slower_disk for unit, seconds in reads_s.items()},
            self._overhead_s(shape),
            self._read_bytes(layer),
            experts=dict.fromkeys(self._routers, layer),
        )

    def steady(self, shape: SweepShape) -> StepTime:
        """One of many sweeps alike, without simulation; a little optimistic."""
        return self._sums(shape).step_time(self._read_bytes(self._layer(shape)))

    def _sums(self, shape: SweepShape) -> SweepSums:
        """Other units are read beside everything, experts of a layer after its router alone."""
        load = self.load(shape)
        if self.streamed and not self.reads_ahead:
            total_s = self.simulated_s([load, load])[-1]
        else:
            experts_s = sum(layer.alone_s for layer in load.experts.values())
            total_s = max(load.disk_s, sum(load.compute_s) + experts_s + load.overhead_s)
        return SweepSums(total_s, load.cpu_s, load.overhead_s, load.disk_s)

    def _read_bytes(self, layer: LayerExperts) -> float:
        experts_bytes = self.costs.model.config.mixture_layers * layer.read_bytes
        return sum(self.streamed_bytes.values()) + experts_bytes

    def _layer(self, shape: SweepShape) -> LayerExperts:
        return self._experts.layer(shape, self.micro_batch_tokens)

    @lazy
    def _experts(self) -> ExpertTimes:
        experts = self.costs.model.experts
        assert experts is not None
        way = self.read_block_bytes, self.read_concurrency
        disk, size_bytes = self.profile.disk_read, experts.largest_bytes
        read_s = disk.request_s + unit_read_s(disk, size_bytes, *way)
        idle_s = max(self._idle_s(size_bytes) - disk.request_s, 0.0)
        blocks = -(-size_bytes // block_bytes_of(size_bytes, *way))
        held_up_s = self._python_frac * blocks * disk.block_s
        return ExpertTimes(self.costs, experts, self.experts, read_s, idle_s, held_up_s)

    @lazy
    def _routers(self) -> list[int]:
        units = enumerate(self.costs.model.units)
        return [index for index, sized in units if sized.unit.kind == "router"]
