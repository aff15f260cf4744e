"""How fast a candidate runs a workload: a quick estimate, and the whole run simulated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import inf

from lm_offload.plan import Plan, Retention
from lm_offload.planner.choose.candidate_times import CandidateTimes
from lm_offload.planner.choose.common import MOST_GROUPS
from lm_offload.planner.choose.thread_choice import choose_threads
from lm_offload.planner.costs.sweep_shape import SweepGroup
from lm_offload.planner.decided.candidate_plan import plan_of
from lm_offload.planner.places.candidate import Candidate
from lm_offload.planner.places.prompts_here import with_prompts_here
from lm_offload.planner.places.recordings import with_recordings
from lm_offload.planner.sweeps.device_time import DeviceSweepTimes
from lm_offload.planner.sweeps.mean_sweeps import counted_s, mean_wave, waves_of
from lm_offload.planner.sweeps.replay import fewest_groups
from lm_offload.planner.sweeps.run_time import RunTime, time_run

LENDING_GAIN = 1.003  # less is no reason to let blocks lie apart


@dataclass(frozen=True)
class Timed:
    """A plan with the seconds that its objective counts."""

    plan: Plan
    score_s: float
    candidate: Candidate


@dataclass(frozen=True)
class Predictor(CandidateTimes):
    """Predicts candidates of one request; what they have in common is computed once."""

    @cached_property
    def room(self) -> int:
        """A number for all that placements depend on beside models and sizes."""
        request, rooms = self.request, self.common.rooms
        link, disk = request.profile.h2d, request.profile.disk_read
        blocks = link and link.block_bytes, disk.block_bytes, disk.concurrency
        key = request.budget_bytes, request.device, request.default_threads, blocks
        return rooms.setdefault(key, len(rooms))

    def estimate_s(self, candidate: Candidate, limit_s: float = inf) -> float:
        """Seconds that the objective counts, from the mean sweep of each phase.

        Where rings make sums say little beside a device, sweeps are simulated if sums are below
        `limit_s`.
        """
        times = self.times(self._completed(candidate))
        sizes, workload = candidate.sizes, self.request.workload
        if not isinstance(times, DeviceSweepTimes) or not times.reads_wait:
            return counted_s(workload, sizes, times.steady_s)
        least_s = counted_s(workload, sizes, times.ahead_s)
        if least_s >= limit_s:
            return least_s
        return counted_s(workload, sizes, lambda shape: times.waiting(shape).total_s)

    def estimated(self, candidate: Candidate, limit_s: float = inf) -> tuple[float, Candidate]:
        """The estimate of a candidate that lends unused KV memory if that is faster."""
        ways = ((self.estimate_s(way, limit_s), way) for way in _ways_to_lend(candidate))
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

    def _with_turns(self, plan: Plan, candidate: Candidate) -> Plan:
        """The plan with what decides how its sweeps are cut, if both processors attend."""
        if not candidate.sizes.device_blocks or plan.device is None:
            return plan
        turns = self.turn_costs_of(candidate.threads, candidate.model, candidate.sizes)
        return replace(plan, device=replace(plan.device, turns=turns))

    def _retention(self, candidate: Candidate, groups: Sequence[SweepGroup]) -> Retention | None:
        lending = self.lending_of(candidate)
        return lending.retention(groups) if lending else None

    def _completed(self, candidate: Candidate) -> Candidate:
        """With what follows from the rest, where it is faster and there is room for it."""
        return with_prompts_here(
            self.request,
            self._with_recordings(candidate),
            lambda way, shape: self.times(way).steady_s(shape),
        )

    def _with_recordings(self, candidate: Candidate) -> Candidate:
        """With what decode launches recorded on the device, where that is faster."""
        costs = self.costs_of(candidate)
        if candidate.device is None or not costs.processor.replay_s:
            return candidate
        return with_recordings(self.request, candidate, costs, self.replayed(costs))


def _margin(candidate: Candidate) -> float:
    """What lending must gain at least."""
    return LENDING_GAIN if candidate.lends else 1.0


def _ways_to_lend(candidate: Candidate) -> list[Candidate]:
    """Not at all, and where it is possible."""
    ways = [replace(candidate, lends=False)] if candidate.lends else [candidate]
    return [*ways, replace(candidate, lends=True)] if candidate.can_lend else ways
