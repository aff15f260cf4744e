"""The best shares of weights, KV and activations over the tiers, as a linear program.

With everything else fixed, the seconds of each resource and the bytes of each tier are affine in
the six shares x = (weights, KV, activations) x (gpu, disk); the CPU's memory holds the rest::

    minimise    t_prefill + t_decode + P * (missing_gpu + missing_cpu + missing_disk)
                + OVERLAPPED * sum over r of seconds_r(x)
    subject to  seconds_r(x) <= t_phase(r)              each resource in each phase
                bytes_m(x)   <= capacity_m + missing_m  each tier in each phase
                x_gpu + x_disk <= 1, x >= 0             each of the three

P is so high that something is missing only where nothing fits. Work that is hidden costs a little
too, for no schedule overlaps perfectly: placements with less of it are faster in simulation.
FlexGen (arXiv 2303.06865, section 4.3) solves the same with nine shares. The multipliers of one
solution bound every other program of this form from below (weak duality), so that a search knows
which it need not solve.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from lm_offload.planner.policies.memory import TIERS
from lm_offload.planner.policies.shares import COORDINATES

Array: TypeAlias = NDArray[np.float64]

OVERLAPPED = 0.08  # cost of a second of work that other work could hide
PENALTY = 1e4  # a missing GiB costs so many times the seconds that the worst placement takes
DEARER = np.array([1.02, 1.01, 1.0])  # by tier: what is missing anywhere is missing on the disk


@dataclass(frozen=True)
class Programs:
    """Many programs of the same form; the last axis is what is affine in the shares.

    First come the seconds of the resources in prefill, then in decode, then GiB of each tier.
    """

    constants: Array  # [programs, rows]
    slopes: Array  # [programs, coordinates, rows]
    seconds_rows: int  # of one phase
    capacities: Array  # GiB, one for each row of bytes
    tiers: tuple[int, ...]  # which tier each row of bytes belongs to

    @property
    def count(self) -> int:
        """How many programs there are."""
        return len(self.constants)

    def some(self, members: NDArray[np.int64]) -> Programs:
        """Those with these numbers."""
        if len(members) == self.count:
            return self
        return replace(self, constants=self.constants[members], slopes=self.slopes[members])

    @cached_property
    def worst_s(self) -> Array:
        """Seconds that no phase of a program exceeds, wherever everything lies."""
        rows = 2 * self.seconds_rows
        reach = np.abs(self.slopes[:, :, :rows]).sum(axis=1)
        worst_s: Array = (self.constants[:, :rows] + reach).max(axis=1)
        return worst_s


@dataclass(frozen=True)
class Multipliers:
    """What one more second of a resource, or one GiB less of a tier, costs at an optimum."""

    seconds: Array  # [2 * seconds_rows], non-negative
    gib: Array  # [rows of bytes], non-negative


@dataclass(frozen=True)
class Placement:
    """The solution of one program."""

    index: int  # of the program
    cost_s: float  # what was minimised
    total_s: float  # of both phases
    shares: Array  # by coordinate
    missing_gib: Array  # by tier; all zero where it fits
    multipliers: Multipliers

    @property
    def fits(self) -> bool:
        """Whether there is room for everything."""
        return bool(self.missing_gib.max() <= 1e-6)


def solve(programs: Programs, index: int) -> Placement:
    """The optimum of one program; all on the disk, at any cost, where HiGHS cannot find it."""
    from scipy.optimize import linprog

    seconds, shares = 2 * programs.seconds_rows, len(COORDINATES)
    rows, right = _inequalities(programs, index)
    costs = np.zeros(rows.shape[1])
    costs[:shares] = OVERLAPPED * programs.slopes[index, :, :seconds].sum(axis=1)
    costs[shares : shares + 2] = 1.0
    costs[shares + 2 :] = PENALTY * programs.worst_s[index] * DEARER
    bounds = [(0, None)] * shares + [(None, None)] * 2 + [(0, None)] * len(TIERS)
    result = linprog(costs, A_ub=rows, b_ub=right, bounds=bounds, method="highs")
    if result.x is None:  # petabytes: coefficients are too far apart
        return _on_disk(programs, index)
    marginals = np.maximum(-result.ineqlin.marginals, 0.0)
    gib = marginals[seconds : seconds + len(programs.capacities)]
    return Placement(
        index,
        float(result.fun + OVERLAPPED * programs.constants[index, :seconds].sum()),
        float(result.x[shares : shares + 2].sum()),
        result.x[:shares],
        result.x[shares + 2 :],
        Multipliers(_sum_to_one(marginals[:seconds]) + OVERLAPPED, gib),
    )


def _on_disk(programs: Programs, index: int) -> Placement:
    """Everything on the disk, from which no bound follows; tells what is missing."""
    seconds, shares = 2 * programs.seconds_rows, np.tile([0.0, 1.0], len(COORDINATES) // 2)
    gib = (programs.constants[index] + shares @ programs.slopes[index])[seconds:]
    missing = np.zeros(len(TIERS))
    np.maximum.at(missing, list(programs.tiers), gib - programs.capacities)
    nothing = Multipliers(np.zeros(seconds), np.zeros(len(gib)))
    return Placement(index, math.inf, math.inf, shares, missing, nothing)


def lower_bounds(programs: Programs, found: Sequence[Multipliers]) -> Array:
    """Costs that each program cannot beat, by weak duality; high where nothing fits.

    The highest of those that each of one or more solutions gives.
    """
    gib = np.stack([multipliers.gib for multipliers in found], axis=1)
    seconds = np.stack([multipliers.seconds for multipliers in found], axis=1)
    weights = np.concatenate([seconds, gib])
    slopes = programs.slopes.reshape(-1, len(weights)) @ weights
    slopes = slopes.reshape(programs.count, -1, 2, len(found))
    cheapest = np.minimum(np.minimum(slopes[:, :, 0], slopes[:, :, 1]), 0.0).sum(axis=1)
    bounds = programs.constants @ weights - programs.capacities @ gib + cheapest
    highest: Array = bounds.max(axis=1)
    return highest


def _inequalities(programs: Programs, index: int) -> tuple[Array, Array]:
    """Rows and right sides over (shares, two phases, missing by tier)."""
    seconds, gib = 2 * programs.seconds_rows, len(programs.capacities)
    shares = len(COORDINATES)
    rows = np.zeros((seconds + gib + shares // 2, shares + 2 + len(TIERS)))
    rows[: seconds + gib, :shares] = programs.slopes[index].T
    rows[: seconds // 2, shares] = -1.0
    rows[seconds // 2 : seconds, shares + 1] = -1.0
    for row, tier in enumerate(programs.tiers):
        rows[seconds + row, shares + 2 + tier] = -1.0
    for triple in range(shares // 2):
        rows[seconds + gib + triple, 2 * triple : 2 * triple + 2] = 1.0
    constants = programs.constants[index]
    right = np.concatenate([-constants, np.ones(shares // 2)])
    right[seconds : seconds + gib] += programs.capacities
    return rows, right


def _sum_to_one(marginals: Array) -> Array:
    """Multipliers of the resources by phase, free of the solver's rounding."""
    phases = marginals.reshape(2, -1)
    ones: Array = phases / np.maximum(phases.sum(axis=1, keepdims=True), 1e-300)
    return ones.ravel()
