"""How fast a candidate runs a workload: a quick estimate, and the whole run simulated."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import islice

from lm_offload.hardware.profile import HardwareProfile
from lm_offload.kvcache.cache import kv_block_bytes
from lm_offload.plan import Plan, ThreadPlan
from lm_offload.planner.candidate import Candidate, plan_of
from lm_offload.planner.device_time import times_on_device
from lm_offload.planner.mean_sweeps import mean_decode, mean_prefill, mean_wave, waves_of
from lm_offload.planner.replay import sweeps_of
from lm_offload.planner.request import Request
from lm_offload.planner.run_time import RunTime, time_run
from lm_offload.planner.sweep_time import SweepTimes
from lm_offload.planner.thread_choice import choose_threads
from lm_offload.planner.thread_rates import with_threads
from lm_offload.planner.unit_cost import UnitCosts

MOST_GROUPS = 256  # of sweeps that are alike, in one run


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
    _costs: dict[tuple[object, ...], UnitCosts] = field(default_factory=dict, compare=False)
    _profiles: dict[ThreadPlan, HardwareProfile] = field(default_factory=dict, compare=False)

    def estimate_s(self, candidate: Candidate) -> float:
        """Seconds that the objective counts, from the mean sweep of each phase."""
        workload, times = self.request.workload, self.times(candidate)
        phases = (phase(workload, candidate.sizes) for phase in (mean_prefill, mean_decode))
        wave_s = sum(mean.sweeps * times.steady(mean.shape).total_s for mean in phases)
        waves = waves_of(workload, candidate.sizes)
        return wave_s * ((waves + 1) / 2 if workload.objective == "latency" else waves)

    def timed(self, candidate: Candidate) -> Timed:
        """The plan with its predicted figures, every sweep of the workload simulated."""
        run = self.run_time(candidate)
        plan = plan_of(self.request, candidate, run.figures(candidate.peak_bytes))
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
        return self.timed(replace(found, threads=threads))

    def run_time(self, candidate: Candidate) -> RunTime:
        """Every sweep of the workload; of a long and varied one, those of its mean waves."""
        workload, sizes = self.request.workload, candidate.sizes
        groups = list(islice(sweeps_of(workload, sizes), MOST_GROUPS + 1))
        if len(groups) <= MOST_GROUPS:
            return time_run(groups, self.times(candidate))
        wave = time_run(mean_wave(workload, sizes), self.times(candidate))
        return RunTime(wave.groups * waves_of(workload, sizes))

    def times(self, candidate: Candidate) -> SweepTimes:
        """The times of the candidate's sweeps."""
        times = SweepTimes(
            costs=self._costs_of(candidate),
            profile=self._profile_of(candidate.threads),
            streamed=candidate.streamed,
            ring_bytes=candidate.residency.ring_bytes,
            micro_batch_tokens=candidate.sizes.micro_batch_tokens,
            rows_in_memory=candidate.rows_in_memory,
            read_block_bytes=candidate.read_block_bytes,
            read_concurrency=candidate.read_concurrency,
            sampling_threads=candidate.threads.sampling,
            spill=candidate.sizes.spill,
        )
        if candidate.device is None:
            return times
        ring_bytes, host = candidate.device.ring_bytes, self._host_costs_of(candidate)
        return times_on_device(times, candidate.uploaded, ring_bytes, host)

    def _host_costs_of(self, candidate: Candidate) -> UnitCosts | None:
        """What attention costs on the CPU, where that attends beside a device."""
        if candidate.sizes.attention == "device":
            return None
        model = candidate.model
        key = (str(model.kv_format), "attention", candidate.threads)
        if key not in self._costs:
            cpu = self._profile_of(candidate.threads).cpu
            self._costs[key] = UnitCosts(model, cpu, cached=False)
        return self._costs[key]

    def _costs_of(self, candidate: Candidate) -> UnitCosts:
        """Weights stay in the last-level cache if all that a sweep touches fits there."""
        model, profile = candidate.model, self._profile_of(candidate.threads)
        processor = profile.gpu if candidate.device and profile.gpu else profile.cpu
        kv_bytes = candidate.sizes.kv_blocks * kv_block_bytes(model.config, model.kv_format)
        moves = candidate.streamed or candidate.uploaded
        cached = not moves and model.units_bytes + kv_bytes <= processor.cache_bytes
        key = (str(model.weight_format), str(model.kv_format), cached, candidate.threads)
        if key not in self._costs:
            self._costs[key] = UnitCosts(model, processor, cached)
        return self._costs[key]

    def _profile_of(self, threads: ThreadPlan) -> HardwareProfile:
        if threads not in self._profiles:
            self._profiles[threads] = with_threads(self.request.profile, threads)
        return self._profiles[threads]
