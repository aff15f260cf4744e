"""What binds a policy, in words: the phase, the resource, and what it is busy with."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace

from lm_offload.planner.policies.job import Job
from lm_offload.planner.policies.policy import Policy
from lm_offload.planner.policies.scene import Phase
from lm_offload.planner.policies.task_costs import resource_of, resource_seconds, task_seconds
from lm_offload.planner.policies.time import PhaseTime, PolicyTime
from lm_offload.schedule.task import Kind, Resource

WORDS: Mapping[Resource, str] = {
    "disk_read": "disk reads",
    "disk_write": "disk writes",
    "h2d": "the link to the GPU",
    "d2h": "the link from the GPU",
    "gpu": "the GPU",
    "cpu": "the CPU",
}
BUSY = 0.75  # of a sweep: a resource that works less does not bind it
MOST = 0.5  # of a device's seconds: dequantization that takes more is what it does


@dataclass(frozen=True)
class Bottleneck:
    """What a phase is bound by."""

    phase: Phase
    resource: Resource
    work: str
    busy_frac: float  # of the sweep in which the resource works

    def __str__(self) -> str:
        if self.busy_frac >= BUSY:
            return f"{self.phase} is bound by {WORDS[self.resource]} ({self.work})"
        busiest = f"{WORDS[self.resource]} ({self.work}) works {self.busy_frac:.0%} of the time"
        return f"{self.phase} is bound by tasks that wait for one another; {busiest}"


def bottleneck(job: Job, policy: Policy, time: PolicyTime, phase: Phase) -> Bottleneck:
    """The resource that works longest in a phase, and its largest kind of work."""
    sweep = phase_time(time, phase)
    work = _work(job, policy, phase, sweep.bottleneck)
    return Bottleneck(phase, sweep.bottleneck, work, sweep.busy_frac(sweep.bottleneck))


def phase_time(time: PolicyTime, phase: Phase) -> PhaseTime:
    """The mean sweep of a phase."""
    return time.prefill if phase == "prefill" else time.decode


def ceiling_tokens_per_s(time: PolicyTime) -> float:
    """Generated tokens a second if the busiest resource of each phase never had to wait."""
    decode_s = (time.gen_len - 1) * max(time.decode.busy_s.values())
    return time.block_size * time.gen_len / (max(time.prefill.busy_s.values()) + decode_s)


def _work(job: Job, policy: Policy, phase: Phase, resource: Resource) -> str:
    scene = job.scene(policy, phase)
    work_s: defaultdict[str, float] = defaultdict(float)
    for key, task_s in task_seconds(scene).items():
        if resource_of(scene, key[0]) == resource:
            work_s[_word(key[0])] += resource_seconds(scene, {key: task_s})[resource]
    if resource == scene.devices.compute and policy.dequantize != "fused":
        fused = job.scene(replace(policy, dequantize="fused"), phase)
        fused_s = resource_seconds(fused, task_seconds(fused)).get(resource, 0.0)
        if fused_s < (1 - MOST) * sum(work_s.values()):
            return "dequantization"
    return max(work_s, key=work_s.__getitem__)


def _word(kind: Kind) -> str:
    if kind in ("read", "stage", "upload"):
        return "weights"
    if kind.endswith("_kv"):
        return "KV cache"
    if kind.endswith("_hidden"):
        return "activations"
    return "products" if kind in ("compute", "project") else "attention"
