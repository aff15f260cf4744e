"""Sorts of units: those of one sort cost the same, so that sums over units are sums over sorts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lm_offload.planner.costs.model_sizes import UnitSize

Counts = Sequence[tuple[int, int]]  # number of a sort, units of it


@dataclass(frozen=True)
class UnitSorts:
    """The sorts of a model's units by number, in order of their first units."""

    of_units: Sequence[int]
    examples: Sequence[UnitSize]  # a unit of each
    _known: dict[frozenset[int], Counts] = field(default_factory=dict, compare=False, repr=False)

    def counts_of(self, units: frozenset[int]) -> Counts:
        """How many of some units are of which sort."""
        if units not in self._known:
            self._known[units] = [*Counter(map(self.of_units.__getitem__, units)).items()]
        return self._known[units]


def sorts_of(units: Sequence[UnitSize], attends: Sequence[Hashable]) -> UnitSorts:
    """By kind, bytes and how a layer attends: layers differ in little."""
    numbers: dict[object, int] = {}
    examples: list[UnitSize] = []
    of_units = []
    for key, sized in zip(_keys(units, attends), units, strict=True):
        if key not in numbers:
            numbers[key] = len(numbers)
            examples.append(sized)
        of_units.append(numbers[key])
    return UnitSorts(of_units, examples)


def _keys(units: Iterable[UnitSize], attends: Sequence[Hashable]) -> Iterable[object]:
    for sized in units:
        kind = sized.unit.kind
        yield kind, sized.size_bytes, kind == "attention" and attends[sized.unit.index]
