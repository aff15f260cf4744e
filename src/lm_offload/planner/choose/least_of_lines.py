"""The least that several resources need together, each of which takes more or less with a share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import NamedTuple


class Line(NamedTuple):
    """Seconds at a share of 0 and of 1; between them, and beyond, on a straight line."""

    none_s: float
    every_s: float

    def at(self, share: float) -> float:
        """Seconds at a share."""
        return self.none_s + share * (self.every_s - self.none_s)


def least_of_lines(lines: Sequence[Line], least: float, most: float) -> float:
    """The least, over shares from `least` to `most`, of the longest of all."""
    corners = _corners(lines, least, most)
    return min(max([line.at(share) for line in lines]) for share in corners)


def _corners(lines: Sequence[Line], least: float, most: float) -> Iterator[float]:
    """Where two lines cross, and both ends."""
    yield from (least, most)
    for one, other in combinations(lines, 2):
        apart_s = one.none_s - other.none_s
        closer_s = apart_s - (one.every_s - other.every_s)
        if closer_s and least < apart_s / closer_s < most:
            yield apart_s / closer_s
