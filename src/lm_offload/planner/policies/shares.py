"""Shares as the coordinates of a linear program, and back."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from lm_offload.planner.policies.policy import Policy, Share

WHATS = ("weights", "kv", "activations")
COORDINATES = tuple((what, tier) for what in WHATS for tier in ("gpu", "disk"))
STEP = 1e-4  # of rounded shares


def with_shares(policy: Policy, shares: Mapping[str, Share]) -> Policy:
    """The policy with some of its shares changed; keys are `WHATS`."""
    return replace(
        policy,
        weights=shares.get("weights", policy.weights),
        kv=shares.get("kv", policy.kv),
        activations=shares.get("activations", policy.activations),
    )


def placed(policy: Policy, shares: Sequence[float], free: Collection[str]) -> Policy:
    """The policy with the shares of a solution; what is not free stays where it is."""
    pairs = {what: _share(shares[2 * i], shares[2 * i + 1]) for i, what in enumerate(WHATS)}
    return with_shares(policy, {what: pairs[what] for what in WHATS if what in free})


def rounded(policy: Policy) -> Policy:
    """The policy with shares of few digits; faster tiers get less, never more."""
    return with_shares(policy, {what: _rounded(getattr(policy, what)) for what in WHATS})


def _share(gpu: float, disk: float) -> Share:
    """Free of the solver's rounding; the CPU's memory holds the rest."""
    gpu, disk = (min(max(float(part), 0.0), 1.0) for part in (gpu, disk))
    disk = min(disk, 1.0 - gpu)
    return Share(gpu, 1.0 - gpu - disk, disk)


def _rounded(share: Share) -> Share:
    gpu = _floor(share.gpu)
    cpu = _floor(share.cpu) if share.disk >= STEP else round(1.0 - gpu, 4)
    return Share(gpu, cpu, abs(round(1.0 - gpu - cpu, 4)))


def _floor(part: float) -> float:
    return round(math.floor(part / STEP + STEP) * STEP, 4)
