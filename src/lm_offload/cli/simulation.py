"""A simulated run as one record, for JSON and for people."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lm_offload.planner.policies.explain import Gain, RunnerUp
from lm_offload.planner.policies.job import PHASES, Job
from lm_offload.planner.policies.memory import capacities
from lm_offload.planner.policies.policy import Policy
from lm_offload.planner.policies.reasons import bottleneck, ceiling_tokens_per_s, phase_time
from lm_offload.planner.policies.scene import Phase
from lm_offload.planner.policies.text import policy_to_dict
from lm_offload.planner.policies.time import PolicyTime, step_timeline
from lm_offload.planner.sweeps.timeline import Timeline
from lm_offload.schedule.task import Resource


@dataclass(frozen=True)
class Simulation:
    """A policy on a machine; what the search has to say of it, if there was one."""

    model: str
    job: Job
    policy: Policy
    time: PolicyTime
    runners_up: Sequence[RunnerUp] = ()
    gains: Sequence[Gain] = ()

    def record(self) -> dict[str, Any]:
        """Everything as mappings, texts and numbers; seconds, bytes and tokens per second."""
        time, peak = self.time, self.job.peak_bytes(self.policy)
        return {
            "model": self.model,
            "machine": self.job.machine.name,
            "prompt_len": time.prompt_len,
            "gen_len": time.gen_len,
            "policy": policy_to_dict(self.policy),
            "batch_size": time.block_size,
            "prefill_tokens_per_s": time.prefill_tokens_per_s,
            "decode_tokens_per_s": time.decode_tokens_per_s,
            "throughput_tokens_per_s": time.generation_tokens_per_s,
            "ceiling_tokens_per_s": ceiling_tokens_per_s(time),
            "ttft_s": time.prefill.step_s,
            "tpot_s": time.decode.step_s,
            "phases": {phase: self._phase(phase) for phase in PHASES},
            "peak_bytes": {tier: round(peak.of(tier)) for tier in peak.decode},
            "capacity_bytes": capacities(self.job.machine),
            "runners_up": [_runner_up(it) for it in self.runners_up],
            "gains": {gain.change: gain.speedup for gain in self.gains},
        }

    def timeline(self, phase: Phase) -> Timeline:
        """Every task of one sweep, from a standstill."""
        return step_timeline(self.job.scene(self.policy, phase))

    def _phase(self, phase: Phase) -> dict[str, Any]:
        sweep = phase_time(self.time, phase)
        found = bottleneck(self.job, self.policy, self.time, phase)
        return {
            "step_s": sweep.step_s,
            "busy_frac": {name: sweep.busy_frac(name) for name in sweep.busy_s},
            "bottleneck": str(found),
            "critical_path_s": critical_path_s(self.timeline(phase)),
        }


def critical_path_s(timeline: Timeline) -> Mapping[Resource, float]:
    """Seconds of each resource on the chain of tasks that ends last."""
    seconds: defaultdict[Resource, float] = defaultdict(float)
    for task in timeline.critical_path():
        seconds[task.resource] += timeline.ends_s[task.id] - timeline.starts_s[task.id]
    return {resource: spent for resource, spent in seconds.items() if spent > 0}


def _runner_up(runner_up: RunnerUp) -> dict[str, Any]:
    return {
        "change": runner_up.change,
        "slower": runner_up.slower,
        "throughput_tokens_per_s": runner_up.ranked.time.generation_tokens_per_s,
        "reason": str(runner_up.reason),
        "policy": policy_to_dict(runner_up.ranked.policy),
    }
