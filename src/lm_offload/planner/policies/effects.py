"""Placement programs of many policies, read off the cost model at few corners.

Seconds and bytes are affine in the shares and in the number of micro-batches, and what the format
of the weights does adds to what the format of the KV cache does. So the model is asked only about
policies at the corners (everything on the CPU, one thing moved to another tier) with one and two
micro-batches, once for each format, and everything else is a sum::

    rows(weights, kv, x, K) = rows(weights) + rows(kv) - rows(neither) + sum of slopes * x
    rows(.., K) = rows(.., 1) + (K - 1) * (rows(.., 2) - rows(.., 1))
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import cache

import numpy as np

from lm_offload.planner.policies.job import PHASES, Job
from lm_offload.planner.policies.memory import TIERS, capacities, phase_bytes
from lm_offload.planner.policies.placement import Array, Programs
from lm_offload.planner.policies.policy import PhasePolicy, Policy, Share
from lm_offload.planner.policies.scene import Phase
from lm_offload.planner.policies.shares import COORDINATES, WHATS, with_shares
from lm_offload.planner.policies.task_bytes import Key
from lm_offload.planner.policies.task_costs import resource_seconds, task_seconds
from lm_offload.schedule.task import Resource
from lm_offload.units import GIB

RESOURCES: tuple[Resource, ...] = ("disk_read", "disk_write", "h2d", "d2h", "gpu", "cpu")
RESERVE = 1e-4  # of each tier, for rounding and for what is not quite affine


def programs_of(job: Job, policies: Sequence[Policy], free: Collection[str] = WHATS) -> Programs:
    """One program for each policy; what is not `free` of its shares stays where it is."""
    effects = _Effects(job, policies[0], frozenset(free))
    on_cpu = dict.fromkeys(free, Share(cpu=1.0))
    designs = [with_shares(replace(policy, num_micro_batches=1), on_cpu) for policy in policies]
    numbers = {design: number for number, design in enumerate(dict.fromkeys(designs))}
    tables = np.stack([effects.table(design) for design in numbers])
    rows = [numbers[design] for design in designs]
    counts = np.array([policy.num_micro_batches for policy in policies])
    table = tables[rows, 0] + (counts - 1)[:, None, None] * tables[rows, 1]
    sizes = capacities(job.machine)
    gib = np.array([(1 - RESERVE) * sizes[tier] / GIB for tier in TIERS])
    return Programs(
        table[:, 0],
        np.ascontiguousarray(table[:, 1:]),  # every bound reads all of them
        len(RESOURCES),
        np.tile(gib, len(PHASES)),
        tuple(range(len(TIERS))) * len(PHASES),
    )


class _Effects:
    """Asks the cost model, and remembers: many policies share their corners."""

    def __init__(self, job: Job, reference: Policy, free: frozenset[str]) -> None:
        self._job = job
        self._free = free
        self._weight_format, self._kv_format = reference.weight_format, reference.kv_format
        self._rows = cache(self._ask)
        self._phase_table = cache(self._corners)

    def table(self, policy: Policy) -> Array:
        """[2, 1 + coordinates, rows]: with one micro-batch, and what one more adds.

        The rows are seconds in prefill, in decode, GiB in both.
        """
        phases = [self._phase_table(phase, _seen_by(policy, phase)) for phase in PHASES]
        seconds = [table[:, :, : len(RESOURCES)] for table in phases]
        gib = [table[:, :, len(RESOURCES) :] for table in phases]
        first, second = np.concatenate([*seconds, *gib], axis=2)
        return np.stack([first, second - first])

    def _corners(self, phase: Phase, policy: Policy) -> Array:
        """[2, 1 + coordinates, rows]: with one and with two micro-batches."""
        weights = replace(policy, kv_format=self._kv_format)
        kv = replace(policy, weight_format=self._weight_format)
        neither = replace(weights, weight_format=self._weight_format)
        base = {"weights": weights, "kv": kv, "activations": neither}
        asked = {what: self._rows(phase, policy) for what, policy in base.items()}
        table = [asked["weights"] + asked["kv"] - asked["activations"]]
        for what, tier in COORDINATES:
            if what not in self._free:
                table.append(np.zeros_like(table[0]))
            elif tier == "gpu" and self._job.machine.gpu is None:
                table.append(_barred(table[0]))
            else:
                moved = with_shares(base[what], {what: Share(**{tier: 1.0})})
                table.append(self._rows(phase, moved) - asked[what])
        return np.stack(table, axis=1)

    def _ask(self, phase: Phase, policy: Policy) -> Array:
        """[2, rows]: with one and with two micro-batches.

        Tasks take as long in both, but for a share of what is dequantized once for all.
        """
        one, two = (replace(policy, num_micro_batches=count) for count in (1, 2))
        seconds = again = task_seconds(self._job.scene(one, phase))
        if policy.dequantize == "unit":
            again = task_seconds(self._job.scene(two, phase))
        return np.stack(
            [self._scene_rows(phase, one, seconds), self._scene_rows(phase, two, again)]
        )

    def _scene_rows(self, phase: Phase, policy: Policy, seconds: Mapping[Key, float]) -> Array:
        busy_s = resource_seconds(self._job.scene(policy, phase), seconds)
        held = phase_bytes(self._job.longest_scene(policy, phase))
        sweeps_s = [self._job.sweeps(phase) * busy_s.get(name, 0.0) for name in RESOURCES]
        return np.array([*sweeps_s, *(held[tier] / GIB for tier in TIERS)])


def _barred(rows: Array) -> Array:
    """Bytes in a GPU that is not there."""
    bytes_only: Array = np.zeros_like(rows)
    bytes_only[:, len(RESOURCES) + TIERS.index("gpu")] = 1.0
    return bytes_only


def _seen_by(policy: Policy, phase: Phase) -> Policy:
    """The policy with what the other phase alone depends on left out."""
    devices: PhasePolicy = policy.prefill if phase == "prefill" else policy.decode
    return replace(policy, prefill=devices, decode=devices)
