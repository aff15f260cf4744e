"""The candidates with the best estimates, found without placing all of them.

What no member of a group can beat is known before any is placed. Groups come in order of their
bounds, their members in order of their own; the search ends where bounds are no better than the
estimates that it has::

    groups     3.1 s   3.4 s   4.0 s | 5.2 s ...          bounds; the rest is never looked at
    members    3.1 s   3.2 s | 3.9 s ...
    estimates  3.2 s   3.3 s                              of those that were placed
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from lm_offload.planner.choose.bounds import Bounds
from lm_offload.planner.choose.likely import LikelyEstimates
from lm_offload.planner.choose.rank import steps
from lm_offload.planner.choose.shortlist import Estimated, Shortlist
from lm_offload.planner.costs.memory import Sizes
from lm_offload.planner.costs.model_sizes import ModelSizes
from lm_offload.planner.places.candidate import Candidate

FINALISTS = 16  # candidates that may win
OTHERS = 4  # of another way to run the model
MISSED = 1.003  # by which a candidate that is not looked at might be better
ABOUT = 1.03  # the same where nothing hangs on it


class Group(NamedTuple):
    """Options of one model that differ in rows alone, those with fewer rows first.

    `spilled`: whether some keys and values are to lie on disk.
    """

    model: ModelSizes
    options: Sequence[Sizes]
    spilled: bool


Way = tuple[object, ...]
_Bounded = list[tuple[float, Group]]


@dataclass(frozen=True)
class BestFirst:
    """Searches the groups of a request.

    `expand` names the layers on disk of an option in every way that is worth a try, `place` gives
    every candidate with these sizes.
    """

    bounds: Bounds
    groups: Sequence[Group]
    expand: Callable[[Group, Sizes], Iterable[Sizes]]
    place: Callable[[ModelSizes, Sizes], Iterable[Candidate]]

    def best(self) -> list[Candidate]:
        """The candidates that may win, the best estimate first."""
        return [found for _, found in self.better_than(math.inf)]

    def better_than(self, known_s: float, floors_s: Sequence[float] = ()) -> list[Estimated]:
        """Those with estimates below `known_s`.

        `floors_s` are bounds of the groups that are known already, if lower than they could be.
        """
        found = Shortlist(FINALISTS, MISSED, known_s)
        if not floors_s:
            return self._best(self._bounded, found)
        floors = zip(floors_s, self.groups, strict=True)
        hopeful = [group for floor_s, group in floors if floor_s < found.limit_s]
        return self._best(_in_order((self.bounds.group_s(*it), it) for it in hopeful), found)

    def other_ways(self, tried: Iterable[Candidate]) -> list[list[Group]]:
        """Groups of a kind of which nothing is among `tried`, kinds with lower bounds first."""
        known, others = {way_of(found) for found in tried}, dict[Way, list[Group]]()
        for _, group in self._bounded:
            way = _way(group.model, group.options[0], group.spilled)
            if way not in known:
                others.setdefault(way, []).append(group)
        return [*others.values()]

    def better_among(self, groups: Iterable[Group], known_s: float) -> list[Estimated]:
        """A few of these groups with estimates below `known_s`."""
        some = {id(group) for group in groups}
        bounded = [it for it in self._bounded if id(it[1]) in some]
        return self._best(bounded, Shortlist(OTHERS, MISSED, known_s))

    def best_of(self, model: ModelSizes) -> list[Candidate]:
        """About the best candidate of a model, whole or cut, if it has one."""
        ways = id(model), id(model.cut)
        bounded = [(bound_s, group) for bound_s, group in self._bounded if id(group.model) in ways]
        return [found for _, found in self._best(bounded, Shortlist(1, ABOUT))]

    def placed(self, group: Group, sizes: Sizes) -> Iterator[Candidate]:
        """An option of a group in every way that fits."""
        for option in self.expand(group, sizes):
            yield from self.place(group.model, option)

    def _best(self, bounded: _Bounded, found: Shortlist) -> list[Estimated]:
        for bound_s, group in bounded:
            if bound_s < found.limit_s:
                self._search(group, found)
        return [(estimate_s, candidate) for estimate_s, _, candidate in found.kept]

    @cached_property
    def group_bounds_s(self) -> Sequence[float]:
        """A bound for each group; infinite where nothing fits."""
        return [self.bounds.group_s(*group) for group in self.groups]

    @cached_property
    def _bounded(self) -> _Bounded:
        return _in_order(zip(self.group_bounds_s, self.groups, strict=True))

    def _search(self, group: Group, found: Shortlist) -> None:
        """Where bounds are alike, those with more rows at once come first."""
        model, options, spilled = group
        bounded = [(self.bounds.sizes_s(model, sizes, spilled), sizes) for sizes in options[::-1]]
        possible = [(bound_s, sizes) for bound_s, sizes in bounded if bound_s < found.limit_s]
        likely = LikelyEstimates(found, len(model.units))
        for bound_s, sizes in sorted(possible, key=lambda entry: steps(entry[0])):
            if bound_s < found.limit_s and likely.may_win(sizes, bound_s):
                likely.note(sizes, bound_s, self._try(group, sizes, found))

    def _try(self, group: Group, sizes: Sizes, found: Shortlist) -> float:
        """The least estimate; layers on disk that are named have a closer bound."""
        least_s = math.inf
        for option in self.expand(group, sizes):
            if group.spilled:
                bound_s = self.bounds.sizes_s(group.model, option, spilled=False)
                if bound_s >= found.limit_s:
                    continue
            for candidate in self.place(group.model, option):
                estimated = self.bounds.predictor.estimated(candidate, found.limit_s)
                least_s = min(least_s, estimated[0])
                found.add(*estimated)
        return least_s


def _in_order(bounded: Iterable[tuple[float, Group]]) -> _Bounded:
    """Where bounds are alike, those with the whole cache in memory come first."""
    possible = [(bound_s, group) for bound_s, group in bounded if bound_s < math.inf]
    return sorted(possible, key=lambda entry: (steps(entry[0]), entry[1].spilled))


def _way(model: ModelSizes, sizes: Sizes, spilled: bool) -> Way:
    """What a user may decide: formats, where attention is computed, what is in place."""
    return id(model), spilled, sizes.attention, bool(sizes.in_place_rows), sizes.in_place_layers > 0


def way_of(found: Candidate) -> Way:
    """That of a candidate."""
    return _way(found.model, found.sizes, bool(found.sizes.spill.layers))
