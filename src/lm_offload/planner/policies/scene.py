"""Everything that the duration of a task depends on, in one record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lm_offload.errors import ConfigError
from lm_offload.hardware.link import Link
from lm_offload.hardware.processor import Processor
from lm_offload.hardware.profile import HardwareProfile
from lm_offload.planner.policies.model_shape import ModelShape
from lm_offload.planner.policies.policy import PhasePolicy, Policy

Phase = Literal["prefill", "decode"]


@dataclass(frozen=True)
class Step:
    """What one sweep computes for each sequence."""

    phase: Phase
    tokens: int  # new ones
    context: float  # tokens that the last of them sees, itself included


def prefill_step(prompt_len: int) -> Step:
    """The sweep over whole prompts."""
    return Step("prefill", prompt_len, prompt_len)


def decode_step(prompt_len: int, gen_len: int) -> Step:
    """The mean decode sweep: the context grows from s + 1 to s + n - 1, so s + n/2 is seen."""
    return Step("decode", 1, prompt_len + gen_len / 2)


@dataclass(frozen=True)
class Scene:
    """A model on a machine under a policy, in one step."""

    model: ModelShape
    machine: HardwareProfile
    policy: Policy
    step: Step

    def __post_init__(self) -> None:
        if self.devices == PhasePolicy("cpu", "gpu"):
            raise ConfigError(
                f"The policy attends on the GPU but computes all else on the CPU in "
                f"{self.step.phase}; choose gpu for both, or cpu for attention."
            )

    @property
    def devices(self) -> PhasePolicy:
        """Who computes what in this phase."""
        return self.policy.prefill if self.step.phase == "prefill" else self.policy.decode

    @property
    def on_gpu(self) -> bool:
        """Whether products are computed on the GPU."""
        return self.devices.compute == "gpu"

    @property
    def splits_attention(self) -> bool:
        """Whether attention is on the CPU while products are on the GPU."""
        return self.on_gpu and self.devices.attention == "cpu"

    @property
    def rows(self) -> int:
        """Tokens that a micro-batch computes."""
        return self.policy.micro_batch_size * self.step.tokens

    def processor(self, device: Literal["gpu", "cpu"]) -> Processor:
        """What computes on a device; raises ConfigError for a GPU that is not there."""
        if device == "cpu":
            return self.machine.cpu
        if self.machine.gpu is None:
            raise ConfigError(
                f"The policy computes on a GPU, but machine {self.machine.name!r} has none; choose "
                "cpu as device of both phases."
            )
        return self.machine.gpu

    @property
    def h2d(self) -> Link:
        """The link to the GPU."""
        return _link(self.machine.h2d, self.machine)

    @property
    def d2h(self) -> Link:
        """The link from the GPU."""
        return _link(self.machine.d2h, self.machine)


def _link(link: Link | None, machine: HardwareProfile) -> Link:
    if link is None:
        raise ConfigError(
            f"Machine {machine.name!r} has no link to a GPU; describe h2d and d2h, or choose "
            "cpu as device of both phases."
        )
    return link
