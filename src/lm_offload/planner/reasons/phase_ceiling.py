"""What the machine allows at best, as figures: the least seconds of each phase by resource."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Bound = Literal["disk", "link", "memory", "compute"]


@dataclass(frozen=True)
class PhaseCeiling:
    """The least seconds of a phase by resource, and the rate that follows."""

    tokens: int
    disk_s: float
    memory_s: float
    compute_s: float
    link_s: float = 0.0  # to a device

    @property
    def seconds(self) -> float:
        """All resources working side by side."""
        return max(self.disk_s, self.link_s, self.memory_s, self.compute_s)

    @property
    def tokens_per_s(self) -> float:
        """The most tokens a second; 0 for a phase that the workload does not have."""
        return self.tokens / self.seconds if self.tokens else 0.0

    @property
    def bound_by(self) -> Bound:
        """The resource that takes longest."""
        seconds: dict[Bound, float] = {
            "disk": self.disk_s,
            "link": self.link_s,
            "memory": self.memory_s,
            "compute": self.compute_s,
        }
        return max(seconds, key=seconds.__getitem__)


@dataclass(frozen=True)
class Ceiling:
    """All prompts prefilled, then all tokens decoded."""

    generated_tokens: int
    prefill: PhaseCeiling
    decode: PhaseCeiling

    @property
    def throughput_tokens_per_s(self) -> float:
        """Generated tokens over the seconds of both phases."""
        return self.generated_tokens / (self.prefill.seconds + self.decode.seconds)
