"""The times of sweeps as a candidate runs them: on the CPU, on devices, or on both."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lm_offload.planner.choose.request_costs import RequestCosts
from lm_offload.planner.costs.expert_sizes import ExpertPlacement
from lm_offload.planner.costs.memory import Sizes, kv_bytes
from lm_offload.planner.costs.model_sizes import ModelSizes
from lm_offload.planner.costs.sweep_shape import SweepShape
from lm_offload.planner.costs.unit_cost import UnitCosts
from lm_offload.planner.places.candidate import Candidate, DevicePlacement
from lm_offload.planner.places.host_placement import READ_BLOCK_BYTES
from lm_offload.planner.sweeps.device_time import DeviceSweepTimes
from lm_offload.planner.sweeps.in_place_time import InPlaceSweepTimes
from lm_offload.planner.sweeps.kv_lending import KVLending
from lm_offload.planner.sweeps.mean_sweeps import waves_of
from lm_offload.planner.sweeps.mixture_time import MixtureSweepTimes
from lm_offload.planner.sweeps.split_time import split_times
from lm_offload.planner.sweeps.stage_time import times_on_stages
from lm_offload.planner.sweeps.sweep_time import SweepTimes
from lm_offload.schedule.in_place import InPlace


@dataclass(frozen=True)
class CandidateTimes(RequestCosts):
    """Times of the candidates of one request, and of sweeps that move nothing."""

    _times: dict[int, tuple[Candidate, DeviceSweepTimes]] = field(
        default_factory=dict, compare=False
    )
    _least: dict[tuple[object, ...], DeviceSweepTimes] = field(default_factory=dict, compare=False)
    _least_s: dict[tuple[object, ...], float] = field(default_factory=dict, compare=False)

    def times(self, candidate: Candidate) -> SweepTimes:
        """The times of the candidate's sweeps."""
        if candidate.model.experts is not None:
            placed = ExpertPlacement(candidate.resident_experts, candidate.expert_ring_bytes)
            return MixtureSweepTimes(**self._host_part(candidate), experts=placed)
        if candidate.device is None:
            return SweepTimes(**self._host_part(candidate), lending=self.lending_of(candidate))
        return self.times_beside(candidate)

    def times_beside(self, candidate: Candidate) -> DeviceSweepTimes:
        """The same of a candidate with a device; remembered, as a choice asks again and again."""
        if id(candidate) not in self._times:
            self._times[id(candidate)] = candidate, self._times_beside(candidate)
        return self._times[id(candidate)][1]

    def _times_beside(self, candidate: Candidate) -> DeviceSweepTimes:
        device, sizes = candidate.device, candidate.sizes
        assert device is not None
        values = {**self._host_part(candidate), **self._device_part(candidate, device)}
        if device.stages:
            return times_on_stages(DeviceSweepTimes(**values), device.stages)
        if sizes.device_blocks:
            turns = self.turn_costs_of(candidate.threads, candidate.model, sizes)
            return split_times(DeviceSweepTimes(**values), sizes, turns)
        if not device.in_place:
            return DeviceSweepTimes(**values)
        where = InPlace(device.in_place, sizes.in_place_rows)
        return InPlaceSweepTimes(**values, in_place=where, programs=self.common.programs)

    def _host_part(self, candidate: Candidate) -> dict[str, Any]:
        return {
            "costs": self.costs_of(candidate),
            "profile": self.profile_of(candidate.threads),
            "streamed": candidate.streamed,
            "ring_bytes": candidate.residency.ring_bytes,
            "micro_batch_tokens": candidate.sizes.micro_batch_tokens,
            "rows_in_memory": candidate.rows_in_memory,
            "read_block_bytes": candidate.read_block_bytes,
            "read_concurrency": candidate.read_concurrency,
            "sampling_threads": candidate.threads.sampling,
            "in_small_pages": candidate.in_small_pages,
            "spill": candidate.sizes.spill,
        }

    def _device_part(self, candidate: Candidate, device: DevicePlacement) -> dict[str, Any]:
        """The CPU's costs where it attends or computes in place."""
        model, on_host = candidate.model, candidate.on_host
        on_cpu = self.cpu_costs(model, candidate.threads) if on_host or device.in_place else None
        return {
            "uploaded": candidate.uploaded,
            "device_ring_bytes": device.ring_bytes,
            "host_costs": on_cpu,
            "on_host": on_host,
            "prompts_here": bool(device.prompt_blocks),
        }

    def least_device_times(
        self, model: ModelSizes, sizes: Sizes, moves: bool = False
    ) -> DeviceSweepTimes:
        """The times of sweeps on the device if nothing were streamed or uploaded.

        If anything `moves`, what comes back waits for its blocks.
        """
        blocks = sizes.kv_blocks, sizes.device_blocks, sizes.max_sequences
        key = id(model), sizes.micro_batch_tokens, sizes.attention, *blocks, moves
        if key not in self._least:
            self._least[key] = self._least_device_times(model, sizes, moves)
        return self._least[key]

    def least_device_s(
        self, model: ModelSizes, sizes: Sizes, shape: SweepShape, moves: bool = False
    ) -> float:
        """Seconds of one of them; computed once for what differs in units in place.

        Nor are micro-batches told apart that hold all rows of the sweep, or of a decode sweep.
        """
        most, blocks = sizes.micro_batch_tokens, (sizes.kv_blocks, sizes.device_blocks)
        rows = min(most, shape.rows), min(most, sizes.max_sequences)
        key = id(model), sizes.attention, sizes.max_sequences, *blocks, *rows, shape, moves
        if key not in self._least_s:
            self._least_s[key] = self.least_device_times(model, sizes, moves).least_s(shape)
        return self._least_s[key]

    def _least_device_times(self, model: ModelSizes, sizes: Sizes, moves: bool) -> DeviceSweepTimes:
        threads, attends = self.request.default_threads, sizes.attention != "device"
        times = DeviceSweepTimes(
            costs=self.least_costs(model, sizes),
            profile=self.profile_of(threads),
            streamed=frozenset(),
            ring_bytes=0,
            micro_batch_tokens=sizes.micro_batch_tokens,
            rows_in_memory=True,
            read_block_bytes=READ_BLOCK_BYTES,
            read_concurrency=1,
            sampling_threads=threads.sampling,
            host_costs=self.cpu_costs(model, threads) if attends else None,
            on_host=model.attention_units if attends else frozenset(),
            prompts_here=sizes.attention == "cpu",
            uploaded=model.largest if moves else frozenset(),
        )
        if not sizes.device_blocks:
            return times
        return split_times(times, sizes, self.turn_costs_of(threads, model, sizes))

    def costs_of(self, candidate: Candidate) -> UnitCosts:
        """Where the candidate computes, as it reads, records and lends."""
        spilled = candidate.sizes.spill.layers
        moves = bool(candidate.streamed or candidate.uploaded or candidate.experts or spilled)
        costs = self.costs_on(candidate.threads, candidate.model, candidate.sizes, moves)
        if candidate.device is not None and candidate.device.replays:
            return self.replayed(costs)
        if not candidate.lends:
            return costs
        processor = self.common.over_blocks_apart(costs.processor)
        return self.common.costs(candidate.model, processor, costs.missed_frac)

    def lending_of(self, candidate: Candidate) -> KVLending | None:
        """What unused KV memory holds, if the candidate lends it."""
        if not candidate.lends:
            return None
        model, sizes = candidate.model, candidate.sizes
        streamed = {unit: model.units[unit].size_bytes for unit in sorted(candidate.streamed)}
        waves = waves_of(self.request.workload, sizes)
        return KVLending(streamed, kv_bytes(model, sizes), sizes.kv_blocks, waves)
