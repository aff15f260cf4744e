"""Searches the policy with the least time for a sequence.

Linear programs place weights, KV and activations for every combination of the discrete choices
that bounds do not rule out. They let resources overlap perfectly; the best few are ranked again by
simulation, and the winner is tried under every schedule.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import replace
from functools import cache
from itertools import chain

import numpy as np

from lm_offload.errors import BudgetError
from lm_offload.planner.policies.blocks import Cut, neighbours
from lm_offload.planner.policies.choices import Choices
from lm_offload.planner.policies.effects import programs_of
from lm_offload.planner.policies.job import Job, lacks_text
from lm_offload.planner.policies.memory import TIERS, Tier
from lm_offload.planner.policies.placement import Placement, solve
from lm_offload.planner.policies.policy import Policy, ScheduleKind
from lm_offload.planner.policies.rank import Ranked, least, rank
from lm_offload.planner.policies.shares import placed, rounded
from lm_offload.planner.policies.space import Indices, PlacementSpace
from lm_offload.units import GIB

RIVALS = 6  # combinations of formats and devices whose best block is simulated
FINALISTS = 2  # of them, tried under every schedule
DESCENT = 2  # steps of the best to neighbouring blocks
PROMISING = 1.3  # times the least cost of a linear program: may be the fastest in simulation
NEARLY = 1.02  # bounds closer than this are worth a look for a smaller block


class PolicySearch:
    """The policies of a job, their placement programs, and what was solved of them."""

    def __init__(self, job: Job, choices: Choices) -> None:
        self.job = job
        self.choices = choices
        self._policies = tuple(choices.policies())
        self._programs = programs_of(job, self._policies, choices.free)
        self._sequences = np.array([policy.block_size for policy in self._policies], dtype=float)
        self.space = PlacementSpace(self._programs, self._sequences)
        self._time = cache(job.time)
        self._numbers: defaultdict[Hashable, dict[Cut, int]] = defaultdict(dict)
        for index, policy in enumerate(self._policies):
            self._numbers[_kind(policy)][_cut(policy)] = index

    def best(self) -> Ranked | None:
        """The policy with the least time, None where none fits."""
        placement = self.space.best(self.space.everything)
        if placement is None:
            return None
        limit_s = PROMISING * self.space.value_s(placement)
        found = [self._smallest_alike(placement)]
        for members in self._others(found[0].policy, limit_s):
            rival = self.space.best(members)
            if rival and self.space.value_s(rival) < limit_s:
                found += self._faster([self._placed(rival)], least(found))
        finalists = sorted(found, key=rank)[:FINALISTS]
        variants = chain.from_iterable(map(self._variants, finalists))
        return self._descended(least([*finalists, *variants]), limit_s)

    def best_like(self, wanted: Policy) -> Ranked | None:
        """The best block with the formats, devices and schedule of a policy; None: none fits."""
        members = self._members(_kind(wanted))
        placement = self.space.best(members) if len(members) else None
        if placement is None:
            return None
        policy = self._policies[placement.index]
        return self.under(policy, wanted.schedule, wanted.prefetch_units)

    def under(self, policy: Policy, schedule: ScheduleKind, prefetch_units: int) -> Ranked | None:
        """The same choices under another schedule, placed anew: its buffers differ."""
        variant = self._placed_under(policy, schedule, prefetch_units)
        return self._simulated(variant) if variant else None

    def least_demanding(self) -> tuple[Policy, dict[Tier, float]]:
        """Of the smallest blocks the policy that lacks least, and the bytes it lacks by tier."""
        members = np.flatnonzero(self._sequences == self._sequences.min())
        solved = [solve(self._programs, int(index)) for index in members]
        least = min(solved, key=lambda placement: float(placement.missing_gib.sum()))
        lacks = dict(zip(TIERS, (GIB * least.missing_gib).tolist(), strict=True))
        return self._policies[least.index], {tier: size for tier, size in lacks.items() if size > 1}

    def _members(self, kind: Hashable) -> Indices:
        return np.fromiter(self._numbers.get(kind, {}).values(), dtype=np.int64)

    def _smallest_alike(self, placement: Placement) -> Ranked:
        """The placement, or the smallest block that is nearly as fast."""
        members = self._members(_kind(self._policies[placement.index]))
        smaller = self.space.smallest(members, NEARLY * self.space.value_s(placement))
        both = [self._placed(it) for it in (placement, smaller) if it]
        return least(map(self._simulated, both))

    def _others(self, chosen: Policy, limit_s: float) -> list[Indices]:
        """Other formats and devices that bounds do not rule out, the most promising first."""
        others = [self._members(kind) for kind in self._numbers if kind != _kind(chosen)]
        open_ones = [it for it in others if self.space.bound_s(it) < limit_s]
        return sorted(open_ones, key=self.space.bound_s)[:RIVALS]

    def _variants(self, ranked: Ranked) -> Iterator[Ranked]:
        """The same choices under every other schedule that fits."""
        for schedule, prefetch_units in self.choices.variants()[1:]:
            variant = self.under(ranked.policy, schedule, prefetch_units)
            if variant is not None:
                yield variant

    def _descended(self, ranked: Ranked, limit_s: float) -> Ranked:
        """The policy after at most DESCENT steps to neighbouring blocks that are faster."""
        sizes, counts = (sorted(set(parts)) for parts in zip(*self.choices.blocks(), strict=True))
        for _ in range(DESCENT):
            cuts = neighbours(_cut(ranked.policy), sizes, counts)
            beside = [self._with_cut(ranked.policy, cut, limit_s) for cut in cuts]
            best = least([ranked, *self._faster(filter(None, beside), ranked)])
            if best is ranked:
                break
            ranked = best
        return ranked

    def _with_cut(self, policy: Policy, cut: Cut, limit_s: float) -> Policy | None:
        """The same with another block; None where its linear program promises little."""
        index = self._numbers[_kind(policy)].get(cut)
        if index is None or self.space.within(index, limit_s) is None:
            return None
        return self._placed_under(self._policies[index], policy.schedule, policy.prefetch_units)

    def _faster(self, policies: Iterable[Policy], best: Ranked) -> list[Ranked]:
        """Those that the estimate, which is no longer than the simulation, does not rule out."""
        estimates = ((policy, self.job.estimate(policy)) for policy in policies)
        return [
            self._simulated(policy)
            for policy, time in estimates
            if time.total_s / time.block_size < best.sequence_s
        ]

    def _placed_under(
        self, policy: Policy, schedule: ScheduleKind, prefetch_units: int
    ) -> Policy | None:
        variant = replace(policy, schedule=schedule, prefetch_units=prefetch_units)
        placement = solve(programs_of(self.job, [variant], self.choices.free), 0)
        return self._with_shares(variant, placement) if placement.fits else None

    def _placed(self, placement: Placement) -> Policy:
        return self._with_shares(self._policies[placement.index], placement)

    def _with_shares(self, policy: Policy, placement: Placement) -> Policy:
        """The policy with the shares of a placement, rounded where that fits."""
        exact = placed(policy, placement.shares.tolist(), self.choices.free)
        readable = rounded(exact)
        return exact if self.job.missing_bytes(readable) else readable

    def _simulated(self, policy: Policy) -> Ranked:
        return Ranked(policy, self._time(policy))


def search(job: Job, choices: Choices) -> tuple[PolicySearch, Ranked]:
    """The best policy and the search that found it; raises BudgetError where none fits.

    The placement programs are those of the first schedule; where nothing fits its buffers, those
    of the next.
    """
    for skipped in range(len(choices.schedules)):
        searched = PolicySearch(job, replace(choices, schedules=choices.schedules[skipped:]))
        best = searched.best()
        if best is not None:
            return searched, best
    policy, lacks = searched.least_demanding()
    raise BudgetError(
        f"No policy fits {job.machine.name}: a block of {policy.block_size} with weights in "
        f"{policy.weight_format} and KV in {policy.kv_format} still lacks {lacks_text(lacks)}; "
        "add memory, allow smaller formats, or shorten prompts or outputs."
    )


def _kind(policy: Policy) -> Hashable:
    """What is the same for all blocks and placements."""
    formats = (policy.weight_format, policy.kv_format, policy.dequantize)
    return (*formats, policy.prefill, policy.decode)


def _cut(policy: Policy) -> Cut:
    return policy.micro_batch_size, policy.num_micro_batches
