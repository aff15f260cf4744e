"""The best estimates of a search so far, and what an estimate has to beat."""

from __future__ import annotations

import math
from bisect import insort
from itertools import count

from lm_offload.planner.places.candidate import Candidate

OF_A_KIND = 2  # candidates that differ in nothing but rows
HOPELESS = 1.1  # an estimate that is worse by this factor cannot win

Estimated = tuple[float, Candidate]


class Shortlist:
    """The best estimates so far, of which at most OF_A_KIND are of one kind.

    `missed` is the factor by which a candidate that is not looked at might be better.
    """

    def __init__(self, most: int, missed: float, known_s: float = math.inf) -> None:
        self.kept: list[tuple[float, int, Candidate]] = []  # a number tells equals apart
        self._most, self.missed, self._known_s = most, missed, known_s / missed
        self.of_a_kind = min(OF_A_KIND, most)
        self._numbers = count()

    @property
    def limit_s(self) -> float:
        """What is not below this is of no interest."""
        if not self.kept:
            return self._known_s
        hopeless_s = min(HOPELESS * self.kept[0][0], self._known_s)
        full = len(self.kept) == self._most
        return min(hopeless_s, self.kept[-1][0] / self.missed) if full else hopeless_s

    def add(self, estimate_s: float, candidate: Candidate) -> None:
        """Keep the candidate if it is among the best."""
        if estimate_s >= self.limit_s:
            return
        insort(self.kept, (estimate_s, next(self._numbers), candidate))
        kind = _kind(candidate)
        alike = [entry for entry in self.kept if _kind(entry[2]) == kind]
        for worse in alike[OF_A_KIND:]:
            self.kept.remove(worse)
        del self.kept[self._most :]


def _kind(found: Candidate) -> tuple[object, ...]:
    """What candidates of one kind have in common."""
    model, sizes = found.model, found.sizes
    formats = model.weight_format, model.kv_format, model.is_cut
    cache = sizes.spill.group_blocks, sizes.attention
    in_place = bool(sizes.in_place_rows), bool(sizes.in_place_layers)
    order = found.ring_depth, found.residency.order
    return (*formats, sizes.max_sequences, *order, *cache, *in_place)
