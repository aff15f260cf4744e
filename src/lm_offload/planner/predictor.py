"""How fast a candidate runs a workload: a quick estimate, and the whole run simulated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from lm_offload.device_plan import TurnCosts
from lm_offload.hardware.profile import HardwareProfile
from lm_offload.kvcache.cache import kv_block_bytes
from lm_offload.plan import Plan, Retention, ThreadPlan
from lm_offload.planner.candidate import Candidate, DevicePlacement
from lm_offload.planner.candidate_plan import plan_of
from lm_offload.planner.common import MOST_GROUPS, Common
from lm_offload.planner.device_time import DeviceSweepTimes
from lm_offload.planner.host_placement import READ_BLOCK_BYTES
from lm_offload.planner.in_place_time import InPlaceSweepTimes
from lm_offload.planner.kv_lending import KVLending
from lm_offload.planner.mean_sweeps import counted_s, mean_wave, waves_of
from lm_offload.planner.memory import Sizes, kv_bytes
from lm_offload.planner.model_sizes import ModelSizes
from lm_offload.planner.prompts_here import with_prompts_here
from lm_offload.planner.recordings import with_recordings
from lm_offload.planner.replay import fewest_groups
from lm_offload.planner.request import Request
from lm_offload.planner.run_time import RunTime, time_run
from lm_offload.planner.split_time import split_times, turn_costs
from lm_offload.planner.stage_time import times_on_stages
from lm_offload.planner.sweep_shape import SweepGroup
from lm_offload.planner.sweep_time import SweepTimes
from lm_offload.planner.thread_choice import choose_threads
from lm_offload.planner.unit_cost import UnitCosts
from lm_offload.schedule.in_place import InPlace

LENDING_GAIN = 1.003  # less is no reason to let blocks lie apart


@dataclass(frozen=True)
class Timed:
    """A plan with the seconds that its objective counts."""

    plan: Plan
    score_s: float
    candidate: Candidate


@dataclass(frozen=True)
class Predictor:
    """Predicts candidates of one request; what they have in common is computed once."""

    request: Request
    common: Common = field(default_factory=Common, compare=False)
    _profiles: dict[ThreadPlan, HardwareProfile] = field(default_factory=dict, compare=False)
    _times: dict[int, tuple[Candidate, DeviceSweepTimes]] = field(
        default_factory=dict, compare=False
    )
    _least: dict[tuple[object, ...], DeviceSweepTimes] = field(default_factory=dict, compare=False)

    @cached_property
    def room(self) -> int:
        """A number for all that placements depend on beside models and sizes."""
        request, rooms = self.request, self.common.rooms
        link, disk = request.profile.h2d, request.profile.disk_read
        blocks = link and link.block_bytes, disk.block_bytes, disk.concurrency
        key = request.budget_bytes, request.device, request.default_threads, blocks
        return rooms.setdefault(key, len(rooms))

    def estimate_s(self, candidate: Candidate) -> float:
        """Seconds that the objective counts, from the mean sweep of each phase."""
        times = self.times(self._completed(candidate))
        sizes, workload = candidate.sizes, self.request.workload
        return counted_s(workload, sizes, times.steady_s)

    def estimated(self, candidate: Candidate) -> tuple[float, Candidate]:
        """The estimate of a candidate that lends unused KV memory if that is faster."""
        ways = ((self.estimate_s(way), way) for way in _ways_to_lend(candidate))
        return min(ways, key=lambda way: way[0] * _margin(way[1]))

    def timed_best(self, candidate: Candidate) -> Timed:
        """The plan that lends unused KV memory if that is faster."""
        ways = map(self.timed, _ways_to_lend(candidate))
        return min(ways, key=lambda timed: timed.score_s * _margin(timed.candidate))

    def timed(self, candidate: Candidate) -> Timed:
        """The plan with its predicted figures, every sweep of the workload simulated."""
        candidate = self._completed(candidate)
        run = self.run_time(candidate)
        figures = run.figures(candidate.peak_bytes)
        retention = self._retention(candidate, [timed.group for timed in run.groups])
        plan = self._with_turns(plan_of(self.request, candidate, figures, retention), candidate)
        latency = self.request.workload.objective == "latency"
        return Timed(plan, run.mean_finish_s if latency else run.run_s, candidate)

    def with_best_threads(self, timed: Timed) -> Timed:
        """The same decisions on the threads that suit them, as far as the user leaves that open."""
        found = timed.candidate
        threads = choose_threads(
            self.request.profile.cpu,
            self.request.threads,
            lambda threads: self.timed(replace(found, threads=threads)).score_s,
        )
        return self.timed_best(replace(found, threads=threads))

    def run_time(self, candidate: Candidate) -> RunTime:
        """Every sweep of the workload; of a long and varied one, those of its mean waves."""
        workload, sizes = self.request.workload, candidate.sizes
        if fewest_groups(workload, sizes) <= MOST_GROUPS:
            groups = self.common.sweeps_of(workload, sizes)
            if len(groups) <= MOST_GROUPS:
                return time_run(groups, self.times(candidate))
        wave = time_run(mean_wave(workload, sizes), self.times(candidate))
        return replace(wave, waves=waves_of(workload, sizes))

    def times(self, candidate: Candidate) -> SweepTimes:
        """The times of the candidate's sweeps."""
        if candidate.device is None:
            return SweepTimes(**self._host_part(candidate), lending=self._lending(candidate))
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
            turns = self._turn_costs(candidate.threads, candidate.model, sizes)
            return split_times(DeviceSweepTimes(**values), sizes, turns)
        if not device.in_place:
            return DeviceSweepTimes(**values)
        where = InPlace(device.in_place, sizes.in_place_rows)
        return InPlaceSweepTimes(**values, in_place=where, programs=self.common.programs)

    def _host_part(self, candidate: Candidate) -> dict[str, Any]:
        return {
            "costs": self._costs_of(candidate),
            "profile": self._profile_of(candidate.threads),
            "streamed": candidate.streamed,
            "ring_bytes": candidate.residency.ring_bytes,
            "micro_batch_tokens": candidate.sizes.micro_batch_tokens,
            "rows_in_memory": candidate.rows_in_memory,
            "read_block_bytes": candidate.read_block_bytes,
            "read_concurrency": candidate.read_concurrency,
            "sampling_threads": candidate.threads.sampling,
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

    def _with_turns(self, plan: Plan, candidate: Candidate) -> Plan:
        """The plan with what decides how its sweeps are cut, if both processors attend."""
        if not candidate.sizes.device_blocks or plan.device is None:
            return plan
        turns = self._turn_costs(candidate.threads, candidate.model, candidate.sizes)
        return replace(plan, device=replace(plan.device, turns=turns))

    def _turn_costs(self, threads: ThreadPlan, model: ModelSizes, sizes: Sizes) -> TurnCosts:
        device = self._costs_on(threads, model, sizes, moves=True)
        return turn_costs(device, self.cpu_costs(model, threads), self.request.workload, sizes)

    def cpu_costs(self, model: ModelSizes, threads: ThreadPlan | None = None) -> UnitCosts:
        """What units cost on the CPU, beside a device that computes others."""
        profile = self._profile_of(threads or self.request.default_threads)
        return self.common.costs(model, profile.cpu, cached=False)

    def _lending(self, candidate: Candidate) -> KVLending | None:
        if not candidate.lends:
            return None
        model, sizes = candidate.model, candidate.sizes
        streamed = {unit: model.units[unit].size_bytes for unit in sorted(candidate.streamed)}
        waves = waves_of(self.request.workload, sizes)
        return KVLending(streamed, kv_bytes(model, sizes), sizes.kv_blocks, waves)

    def _retention(self, candidate: Candidate, groups: Sequence[SweepGroup]) -> Retention | None:
        lending = self._lending(candidate)
        return lending.retention(groups) if lending else None

    def least_costs(self, model: ModelSizes, sizes: Sizes, moves: bool = False) -> UnitCosts:
        """The costs of units if nothing were streamed or uploaded; `moves`: something is."""
        costs = self._costs_on(self.request.default_threads, model, sizes, moves)
        return self._replayed(costs) if costs.processor.replay_s else costs

    def least_device_times(self, model: ModelSizes, sizes: Sizes) -> DeviceSweepTimes:
        """The times of sweeps on the device if nothing were streamed or uploaded."""
        blocks = sizes.kv_blocks, sizes.device_blocks, sizes.max_sequences
        key = id(model), sizes.micro_batch_tokens, sizes.attention, *blocks
        if key not in self._least:
            self._least[key] = self._least_device_times(model, sizes)
        return self._least[key]

    def _least_device_times(self, model: ModelSizes, sizes: Sizes) -> DeviceSweepTimes:
        threads, attends = self.request.default_threads, sizes.attention != "device"
        times = DeviceSweepTimes(
            costs=self.least_costs(model, sizes),
            profile=self._profile_of(threads),
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
        )
        if not sizes.device_blocks:
            return times
        return split_times(times, sizes, self._turn_costs(threads, model, sizes))

    def _completed(self, candidate: Candidate) -> Candidate:
        """With what follows from the rest, where it is faster and there is room for it."""
        return with_prompts_here(
            self.request,
            self._with_recordings(candidate),
            lambda way, shape: self.times(way).steady_s(shape),
        )

    def _with_recordings(self, candidate: Candidate) -> Candidate:
        """With what decode launches recorded on the device, where that is faster."""
        costs = self._costs_of(candidate)
        if candidate.device is None or not costs.processor.replay_s:
            return candidate
        return with_recordings(self.request, candidate, costs, self._replayed(costs))

    def _replayed(self, costs: UnitCosts) -> UnitCosts:
        processor = self.common.replaying(costs.processor)
        return self.common.costs(costs.model, processor, costs.cached)

    def _costs_of(self, candidate: Candidate) -> UnitCosts:
        moves = bool(candidate.streamed or candidate.uploaded)
        costs = self._costs_on(candidate.threads, candidate.model, candidate.sizes, moves)
        if candidate.device is not None and candidate.device.replays:
            return self._replayed(costs)
        if not candidate.lends:
            return costs
        processor = self.common.over_blocks_apart(costs.processor)
        return self.common.costs(candidate.model, processor, costs.cached)

    def _costs_on(
        self, threads: ThreadPlan, model: ModelSizes, sizes: Sizes, moves: bool
    ) -> UnitCosts:
        """Weights stay in the last-level cache if all that a sweep touches fits there."""
        profile = self._profile_of(threads)
        processor = profile.gpu if self.request.device and profile.gpu else profile.cpu
        kv_bytes = sizes.kv_blocks * kv_block_bytes(model.config, model.kv_format)
        cached = not moves and model.units_bytes + kv_bytes <= processor.cache_bytes
        return self.common.costs(model, processor, cached)

    def _profile_of(self, threads: ThreadPlan) -> HardwareProfile:
        if threads not in self._profiles:
            self._profiles[threads] = self.common.on_threads(self.request.profile, threads)
        return self._profiles[threads]


def _margin(candidate: Candidate) -> float:
    """What lending must gain at least."""
    return LENDING_GAIN if candidate.lends else 1.0


def _ways_to_lend(candidate: Candidate) -> list[Candidate]:
    """Not at all, and where it is possible."""
    ways = [replace(candidate, lends=False)] if candidate.lends else [candidate]
    return [*ways, replace(candidate, lends=True)] if candidate.can_lend else ways
