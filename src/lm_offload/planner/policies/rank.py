"""Which of two simulated policies is better."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from lm_offload.planner.policies.policy import Policy
from lm_offload.planner.policies.time import PolicyTime

SAME = 1.005  # predictions closer than this are the same: the smaller block is better


@dataclass(frozen=True)
class Ranked:
    """A policy and its simulated times."""

    policy: Policy
    time: PolicyTime

    @property
    def sequence_s(self) -> float:
        """Seconds of the block for each of its sequences."""
        return self.time.total_s / self.policy.block_size


def rank(ranked: Ranked) -> tuple[int, int]:
    """A key to sort by: time in steps of SAME, then the size of the block."""
    return round(math.log(ranked.sequence_s) / math.log(SAME)), ranked.policy.block_size


def least(ranked: Iterable[Ranked]) -> Ranked:
    """The fastest; among those that are as fast the one with the smallest block."""
    return min(ranked, key=rank)
