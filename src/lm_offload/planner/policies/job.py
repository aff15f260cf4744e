"""What is to be run where: a model on a machine, with as many tokens for every sequence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from lm_offload.hardware.profile import HardwareProfile
from lm_offload.planner.policies.memory import PeakBytes, Tier, capacities, peak_bytes
from lm_offload.planner.policies.model_shape import ModelShape
from lm_offload.planner.policies.policy import Policy
from lm_offload.planner.policies.scene import Phase, Scene, decode_step, prefill_step
from lm_offload.planner.policies.time import PolicyTime, estimate, predict
from lm_offload.units import format_bytes

PHASES: tuple[Phase, ...] = ("prefill", "decode")
ROOMS: dict[Tier, str] = {"gpu": "GPU memory", "cpu": "CPU memory", "disk": "disk"}


@dataclass(frozen=True)
class Job:
    """Blocks of sequences, each with a prompt of `prompt_len` and `gen_len` generated tokens."""

    model: ModelShape
    machine: HardwareProfile
    prompt_len: int
    gen_len: int

    def scene(self, policy: Policy, phase: Phase) -> Scene:
        """The sweep that stands for a phase: the whole prompt, or the mean step of decode."""
        decode = decode_step(self.prompt_len, self.gen_len)
        step = prefill_step(self.prompt_len) if phase == "prefill" else decode
        return Scene(self.model, self.machine, policy, step)

    def longest_scene(self, policy: Policy, phase: Phase) -> Scene:
        """The same with the longest context: what memory has to be there for."""
        scene = self.scene(policy, phase)
        longest = replace(scene.step, context=self.prompt_len + self.gen_len)
        return replace(scene, step=longest)

    def sweeps(self, phase: Phase) -> int:
        """How often a block sweeps over the model in a phase."""
        return 1 if phase == "prefill" else self.gen_len - 1

    def time(self, policy: Policy) -> PolicyTime:
        """Simulated times."""
        return predict(self.model, self.machine, policy, self.prompt_len, self.gen_len)

    def estimate(self, policy: Policy) -> PolicyTime:
        """Times by formula."""
        return estimate(self.model, self.machine, policy, self.prompt_len, self.gen_len)

    def peak_bytes(self, policy: Policy) -> PeakBytes:
        """What a policy holds in each tier."""
        return peak_bytes(self.model, self.machine, policy, self.prompt_len, self.gen_len)

    def missing_bytes(self, policy: Policy) -> dict[Tier, float]:
        """What a policy needs beyond the machine, by tier; empty where it fits."""
        return self.peak_bytes(policy).missing(capacities(self.machine))


def lacks_text(lacks: Mapping[Tier, float]) -> str:
    """Bytes by tier in words: `1.50 GiB of GPU memory and 3.00 GiB of disk`."""
    return " and ".join(f"{format_bytes(size)} of {ROOMS[tier]}" for tier, size in lacks.items())
