"""How long prefill and a decode step take under a policy: simulated, or estimated by formula.

Both give a `PhaseTime`. The simulation times the schedule's own tasks; layers are alike, so it
runs a few of them and adds the others by their period. docs/performance_model.md has the model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lm_offload.hardware.profile import HardwareProfile
from lm_offload.planner.policies.estimate import estimated_step_s
from lm_offload.planner.policies.model_shape import ModelShape
from lm_offload.planner.policies.policy import Policy
from lm_offload.planner.policies.scene import Scene, decode_step, prefill_step
from lm_offload.planner.policies.schedule import policy_block, timeline, units_ahead
from lm_offload.planner.policies.task_bytes import Key
from lm_offload.planner.policies.task_costs import resource_seconds, task_seconds
from lm_offload.planner.sweeps.timeline import Timeline
from lm_offload.schedule.task import Resource, TaskId


@dataclass(frozen=True)
class PhaseTime:
    """Seconds of one sweep of a phase, and what each resource works in it."""

    step_s: float
    busy_s: Mapping[Resource, float]

    @property
    def bottleneck(self) -> Resource:
        """The resource that works longest."""
        return max(self.busy_s, key=lambda resource: self.busy_s[resource])

    def busy_frac(self, resource: Resource) -> float:
        """The share of the sweep in which a resource works."""
        return self.busy_s.get(resource, 0.0) / self.step_s


@dataclass(frozen=True)
class PolicyTime:
    """One block from its prompts to its last tokens: one prefill sweep, n - 1 decode sweeps."""

    prefill: PhaseTime
    decode: PhaseTime  # the mean sweep
    block_size: int  # sequences
    prompt_len: int
    gen_len: int

    @property
    def decode_s(self) -> float:
        """Seconds of all decode sweeps."""
        return (self.gen_len - 1) * self.decode.step_s

    @property
    def total_s(self) -> float:
        """Seconds of the whole block."""
        return self.prefill.step_s + self.decode_s

    @property
    def generation_tokens_per_s(self) -> float:
        """Generated tokens over all seconds: throughput as FlexGen defines it."""
        return self.block_size * self.gen_len / self.total_s

    @property
    def prefill_tokens_per_s(self) -> float:
        """Prompt tokens over the seconds of prefill."""
        return self.block_size * self.prompt_len / self.prefill.step_s

    @property
    def decode_tokens_per_s(self) -> float:
        """Tokens of a decode sweep over its seconds."""
        return self.block_size / self.decode.step_s


def predict(
    model: ModelShape, machine: HardwareProfile, policy: Policy, prompt_len: int, gen_len: int
) -> PolicyTime:
    """The times of a policy by simulation; raises ConfigError for devices that are not there."""
    return _policy_time(simulate_step, model, machine, policy, prompt_len, gen_len)


def estimate(
    model: ModelShape, machine: HardwareProfile, policy: Policy, prompt_len: int, gen_len: int
) -> PolicyTime:
    """The times of a policy by formula: cheaper, and never longer than the simulated ones."""
    return _policy_time(estimate_step, model, machine, policy, prompt_len, gen_len)


def simulate_step(scene: Scene) -> PhaseTime:
    """One sweep: prefill with its first loads, decode in the steady state."""
    seconds = task_seconds(scene)
    few = min(units_ahead(scene.policy) + 2, scene.model.num_layers)
    more = min(2 * few, scene.model.num_layers)
    step_s = _sweep_s(scene, seconds, few)
    if more > few:
        layer_s = (_sweep_s(scene, seconds, more) - step_s) / (more - few)
        step_s += (scene.model.num_layers - few) * layer_s
    busy_s = resource_seconds(scene, seconds)
    return PhaseTime(max(step_s, *busy_s.values()), busy_s)  # a period of few layers is a bit off


def estimate_step(scene: Scene) -> PhaseTime:
    """One sweep in the steady state, by formula."""
    seconds = task_seconds(scene)
    busy_s = resource_seconds(scene, seconds)
    return PhaseTime(estimated_step_s(scene, seconds, busy_s), busy_s)


def step_timeline(scene: Scene) -> Timeline:
    """Every task of one sweep over all layers, from a standstill."""
    return timeline(scene, task_seconds(scene), policy_block(scene, scene.model.num_layers, 1))


def _sweep_s(scene: Scene, seconds: Mapping[Key, float], num_layers: int) -> float:
    """Prefill to its last task; decode from the end of a sweep to the end of the next.

    A third decode sweep keeps the loads going that run ahead of it.
    """
    if scene.step.phase == "prefill":
        return timeline(scene, seconds, policy_block(scene, num_layers, 1)).makespan_s
    block = policy_block(scene, num_layers, 3)
    place = len(block.units) - 1, block.num_micro_batches - 1
    first, second = (TaskId(sweep, "compute", *place) for sweep in (0, 1))
    ends_s = timeline(scene, seconds, block, last=second).ends_s
    return ends_s[second] - ends_s[first]


def _policy_time(
    step_of: Callable[[Scene], PhaseTime],
    model: ModelShape,
    machine: HardwareProfile,
    policy: Policy,
    prompt_len: int,
    gen_len: int,
) -> PolicyTime:
    prefill = step_of(Scene(model, machine, policy, prefill_step(prompt_len)))
    decode = step_of(Scene(model, machine, policy, decode_step(prompt_len, gen_len)))
    return PolicyTime(prefill, decode, policy.block_size, prompt_len, gen_len)
