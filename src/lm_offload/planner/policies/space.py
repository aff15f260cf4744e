"""Best-first search over many placement programs: each one solved tells what need not be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from lm_offload.planner.policies.placement import (
    Array,
    Multipliers,
    Placement,
    Programs,
    lower_bounds,
    solve,
)

Indices: TypeAlias = NDArray[np.int64]

TOGETHER = 16  # solutions whose bounds are computed at once, so that they stay in the cache
SAME = 1e-3  # relative difference of seconds below which no better one is looked for


class PlacementSpace:
    """Finds the programs with the fewest seconds per sequence; remembers what it solved."""

    def __init__(self, programs: Programs, sequences: Array) -> None:
        """`sequences` of each program's block divide its seconds."""
        self._programs = programs
        self._sequences = sequences
        self._bounds = np.zeros(programs.count)
        self._values = np.full(programs.count, np.nan)  # seconds, infinite where it does not fit
        self._solved: dict[int, Placement] = {}

    def best(self, members: Indices) -> Placement | None:
        """The best of the programs `members`; None where none fits."""
        while (index := self._most_promising(members)) is not None:
            self._solve(index)
        values = np.nan_to_num(self._values[members], nan=math.inf, posinf=math.inf)
        position = int(np.argmin(values))
        return self._solved[int(members[position])] if math.isfinite(values[position]) else None

    def within(self, index: int, limit_s: float) -> Placement | None:
        """One program, None if its sequences take `limit_s` or longer."""
        if self._bounds[index] >= limit_s:
            return None
        if index not in self._solved:
            self._solve(index)
        return self._solved[index] if self._values[index] < limit_s else None

    def smallest(self, members: Indices, limit_s: float) -> Placement | None:
        """The program with the fewest sequences in a block of those below `limit_s` for each."""
        ascending = members[np.argsort(self._sequences[members], kind="stable")].tolist()
        found = (self.within(index, limit_s) for index in ascending)
        return next(filter(None, found), None)

    def alike(self, programs: Programs) -> PlacementSpace:
        """A search over programs that differ little; what was learnt here bounds them too."""
        space = PlacementSpace(programs, self._sequences)
        known = [placement.multipliers for placement in self._solved.values()]
        for first in range(0, len(known), TOGETHER):
            space._learn(known[first : first + TOGETHER])
        return space

    @property
    def everything(self) -> Indices:
        """All programs."""
        return np.arange(self._programs.count)

    def bound_s(self, members: Indices) -> float:
        """Seconds of a sequence that none of the programs can beat."""
        return float(self._bounds[members].min())

    def value_s(self, placement: Placement) -> float:
        """Seconds of a sequence; infinite where the block does not fit."""
        return float(self._values[placement.index])

    @property
    def programs(self) -> Programs:
        """What is searched."""
        return self._programs

    @property
    def solved(self) -> int:
        """How many programs were solved."""
        return len(self._solved)

    def _most_promising(self, members: Indices) -> int | None:
        """The unsolved program with the lowest bound; None when it cannot be the best."""
        values, bounds = self._values[members], self._bounds[members]
        unsolved = np.isnan(values) & (bounds < self._worst[members])
        best_s = np.min(values, where=np.isfinite(values), initial=math.inf)
        bounds = np.where(unsolved, bounds, math.inf)
        position = int(np.argmin(bounds))
        return int(members[position]) if bounds[position] < best_s * (1 - SAME) else None

    def _solve(self, index: int) -> None:
        placement = solve(self._programs, index)
        self._solved[index] = placement
        seconds = placement.cost_s / self._sequences[index]
        self._values[index] = seconds if placement.fits else math.inf
        self._learn([placement.multipliers])

    def _learn(self, found: Sequence[Multipliers]) -> None:
        bounds = lower_bounds(self._programs, found) / self._sequences
        np.maximum(self._bounds, bounds, out=self._bounds)

    @property
    def _worst(self) -> Array:
        """Seconds that no placement takes: a higher bound proves that nothing fits."""
        worst: Array = 2 * self._programs.worst_s / self._sequences
        return worst
