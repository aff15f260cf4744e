"""Why a policy was chosen: what comes next and why it loses, and what more hardware would bring."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from lm_offload.planner.policies.effects import RESOURCES
from lm_offload.planner.policies.job import PHASES, Job
from lm_offload.planner.policies.memory import TIERS
from lm_offload.planner.policies.placement import Programs
from lm_offload.planner.policies.policy import PhasePolicy, Policy
from lm_offload.planner.policies.rank import Ranked
from lm_offload.planner.policies.reasons import WORDS, Bottleneck, bottleneck, phase_time
from lm_offload.planner.policies.scene import Phase
from lm_offload.planner.policies.search import PolicySearch
from lm_offload.planner.policies.space import PlacementSpace


@dataclass(frozen=True)
class RunnerUp:
    """The best policy that differs from the chosen one in one choice."""

    change: str  # "int4:64 weights"
    ranked: Ranked
    slower: float  # its time over that of the chosen one
    reason: Bottleneck


@dataclass(frozen=True)
class Gain:
    """How much faster the job could run with more of one thing, everything decided anew."""

    change: str  # "+1 GiB gpu memory", "2x h2d"
    speedup: float  # of the time that no schedule could beat


def runners_up(searched: PolicySearch, best: Ranked) -> list[RunnerUp]:
    """For each choice that could be made otherwise the best that comes of it, fastest first."""
    others = [
        (change, searched.best_like(wanted))
        for change, wanted in _changes(searched, best.policy)
        if wanted != best.policy
    ]
    others += [
        (f"{schedule} schedule", searched.under(best.policy, schedule, 1))
        for schedule in searched.choices.schedules
        if schedule != best.policy.schedule
    ]
    found = [_runner_up(searched, best, change, ranked) for change, ranked in others if ranked]
    return sorted(found, key=lambda runner_up: runner_up.slower)


def gains(searched: PolicySearch) -> list[Gain]:
    """What one more GiB of each tier, and twice the speed of each resource, would bring."""
    space, found = searched.space, []
    best = space.best(space.everything)
    assert best is not None
    for change, programs in _more(space.programs):
        better = space.alike(programs, best)
        found.append(Gain(change, space.value_s(best) / _least_s(better)))
    return sorted(found, key=lambda gain: -gain.speedup)


def _least_s(space: PlacementSpace) -> float:
    """Seconds of a sequence of the best program; infinite where nothing fits."""
    best = space.best(space.everything)
    return space.value_s(best) if best else math.inf


def _changes(searched: PolicySearch, chosen: Policy) -> Iterator[tuple[str, Policy]]:
    """Every other format and device, each alone."""
    choices = searched.choices
    for format in choices.weight_formats:
        yield f"{format} weights", replace(chosen, weight_format=format)
    for format in choices.kv_formats:
        yield f"{format} KV cache", replace(chosen, kv_format=format)
    for devices in choices.decode:
        yield f"{_words(devices)} in decode", replace(chosen, decode=devices)
    for devices in choices.prefill:
        yield f"{_words(devices)} in prefill", replace(chosen, prefill=devices)


def _words(devices: PhasePolicy) -> str:
    if devices.compute == devices.attention:
        return f"everything on the {devices.compute.upper()}"
    return f"attention alone on the {devices.attention.upper()}"


def _runner_up(searched: PolicySearch, best: Ranked, change: str, ranked: Ranked) -> RunnerUp:
    """What a change costs, and what binds it in the phase that loses most."""
    lost_s = {
        phase: _phase_s(searched.job, ranked, phase) - _phase_s(searched.job, best, phase)
        for phase in PHASES
    }
    worst = max(PHASES, key=lost_s.__getitem__)
    reason = bottleneck(searched.job, ranked.policy, ranked.time, worst)
    return RunnerUp(change, ranked, ranked.sequence_s / best.sequence_s, reason)


def _phase_s(job: Job, ranked: Ranked, phase: Phase) -> float:
    """Seconds of a phase for each sequence of the block."""
    sweep_s = phase_time(ranked.time, phase).step_s
    return job.sweeps(phase) * sweep_s / ranked.policy.block_size


def _more(programs: Programs) -> Iterator[tuple[str, Programs]]:
    """The same programs with one more GiB of a tier, or with a resource of twice the speed."""
    for tier, name in enumerate(TIERS):
        more = np.array([float(row == tier) for row in programs.tiers])
        yield f"+1 GiB {name} memory", replace(programs, capacities=programs.capacities + more)
    for row, resource in enumerate(RESOURCES):
        factors = np.ones(programs.constants.shape[1])
        factors[[row, len(RESOURCES) + row]] = 0.5
        faster = replace(
            programs, constants=programs.constants * factors, slopes=programs.slopes * factors
        )
        yield f"2x {WORDS[resource]}", faster
