"""Best-first search over many placement programs: each one solved tells what need not be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
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

    def __init__(
        self, programs: Programs, sequences: Array, known: Sequence[Multipliers] = ()
    ) -> None:
        """`sequences` of each program's block divide its seconds; `known` bounds its programs."""
        self._programs = programs
        self._sequences = sequences
        self._known = [*known]
        self._learnt = np.zeros(programs.count, dtype=np.int64)  # how many of these
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
        if self.bound_s(np.array([index])) >= limit_s:
            return None
        if index not in self._solved:
            self._solve(index)
        return self._solved[index] if self._values[index] < limit_s else None

    def smallest(self, members: Indices, limit_s: float) -> Placement | None:
        """The program with the fewest sequences in a block of those below `limit_s` for each."""
        ascending = members[np.argsort(self._sequences[members], kind="stable")].tolist()
        found = (self.within(index, limit_s) for index in ascending)
        return next(filter(None, found), None)

    def alike(self, programs: Programs, likely: Placement) -> PlacementSpace:
        """A search over programs that differ little; what was learnt here bounds them too.

        `likely` is a placement here whose program may be the best there.
        """
        others = (it for it in self._solved.values() if it is not likely)
        known = [likely.multipliers, *(placement.multipliers for placement in others)]
        space = PlacementSpace(programs, self._sequences, known)
        space._solve(likely.index)
        return space

    @property
    def everything(self) -> Indices:
        """All programs."""
        return np.arange(self._programs.count)

    def bound_s(self, members: Indices) -> float:
        """Seconds of a sequence that none of the programs can beat."""
        while len(behind := self._behind(members)):
            self._learn(behind)
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
        best_s = np.nanmin(self._values[members], initial=math.inf)
        while len(members := self._open(members, best_s)) and len(behind := self._behind(members)):
            self._learn(behind)
        return int(members[np.argmin(self._bounds[members])]) if len(members) else None

    def _open(self, members: Indices, best_s: float) -> Indices:
        """Those that are not solved and may be better."""
        limits = np.minimum(self._worst[members], best_s * (1 - SAME))
        opened: Indices = members[
            np.isnan(self._values[members]) & (self._bounds[members] < limits)
        ]
        return opened

    def _behind(self, members: Indices) -> Indices:
        """Those that know least of what bounds them; none if all know everything."""
        learnt = self._learnt[members]
        least = int(learnt.min(initial=len(self._known)))
        behind: Indices = members[(learnt == least) & (least < len(self._known))]
        return behind

    def _solve(self, index: int) -> None:
        placement = solve(self._programs, index)
        self._solved[index] = placement
        seconds = placement.cost_s / self._sequences[index]
        self._values[index] = seconds if placement.fits else math.inf
        self._known.append(placement.multipliers)

    def _learn(self, members: Indices) -> None:
        """Bounds of programs that know equally much, by the next of what is known."""
        first = int(self._learnt[members[0]])
        found = self._known[first : first + TOGETHER]
        bounds = lower_bounds(self._programs.some(members), found) / self._sequences[members]
        self._bounds[members] = np.maximum(self._bounds[members], bounds)
        self._learnt[members] = first + len(found)

    @cached_property
    def _worst(self) -> Array:
        """Seconds that no placement takes: a higher bound proves that nothing fits."""
        worst: Array = 2 * self._programs.worst_s / self._sequences
        return worst
