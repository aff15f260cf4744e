"""Blocks that follow one another, so that one transfer moves them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Run(NamedTuple):
    """Blocks whose numbers follow one another, as they do in the staging ring."""

    number: int  # of the first block
    place: int  # of the first block, from the start of its group
    blocks: int


def runs_of(numbers: Sequence[int], first_place: int) -> list[Run]:
    """Block `numbers` in order of position, as few runs as possible."""
    if not numbers:
        return []
    row = np.asarray(numbers)
    return [
        Run(numbers[start], first_place + start, stop - start)
        for start, stop in _pieces(np.diff(row) != 1)
    ]


def cut_in_file(runs: Iterable[Run], places: NDArray[np.int64], border: int) -> Iterator[Run]:
    """Runs whose `places` in the file, by number, follow one another, too.

    What lies before and behind place `border` is not side by side.
    """
    for number, place, blocks in runs:
        at = places[number : number + blocks]
        for start, stop in _pieces((np.diff(at) != 1) | (at[1:] == border)):
            yield Run(number + start, place + start, stop - start)


def _pieces(gaps: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Start and stop of what has no gap inside, `gaps` being those between neighbours."""
    return pairwise([0, *(np.flatnonzero(gaps) + 1).tolist(), len(gaps) + 1])
