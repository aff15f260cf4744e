"""Where KV blocks lie when they get a place only with the first token that is put there.

A sequence holds the numbers of all blocks that it can come to need. With the lowest free place for
each that is really used, what nobody has used yet is one piece::

    numbers  A A A A B B B B B B C C C C      held for the longest that A, B and C can become
    places   A B C B A . . . . . . . . .      used so far
                     ^ end

Where sequences end, gaps are left; the last places in use can be moved into them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from heapq import heappop, heappush

import numpy as np
from numpy.typing import NDArray


class BlockPlaces:
    """The place of each block number that has one."""

    def __init__(self, num_blocks: int) -> None:
        self.end = 0  # one past the last place in use
        self._places = np.full(num_blocks, -1, dtype=np.int64)
        self._free = list(range(num_blocks))  # a heap
        self._numbers = np.full(num_blocks, -1, dtype=np.int64)  # what is in each place

    @property
    def num_used(self) -> int:
        """Places in use, gaps left out."""
        return len(self._places) - len(self._free)

    def claim(self, numbers: Iterable[int]) -> list[int]:
        """Give a place to those that have none; returns the new places."""
        return [self._settle(number) for number in numbers if self._places[number] < 0]

    def drop(self, numbers: Iterable[int]) -> None:
        """Take the places of `numbers` back, as far as they have some."""
        for number in numbers:
            place = int(self._places[number])
            if place >= 0:
                self._places[number] = -1
                self._vacate(place)

    def close_gaps(self, most: int) -> Iterator[tuple[int, int]]:
        """Pairs of a place in use and a free one before it; the block is there from now on."""
        for _ in range(most):
            if self.num_used == self.end:
                return
            source = self.end - 1
            target = self._settle(int(self._numbers[source]))
            self._vacate(source)
            yield source, target

    def has(self, number: int) -> bool:
        """Whether a number has a place."""
        return bool(self._places[number] >= 0)

    def of(self, numbers: Sequence[int]) -> NDArray[np.int64]:
        """The places of claimed numbers."""
        return self._places[numbers]

    def _settle(self, number: int) -> int:
        """Put a block into the lowest free place."""
        place = heappop(self._free)
        self._places[number], self._numbers[place] = place, number
        self.end = max(self.end, place + 1)
        return place

    def _vacate(self, place: int) -> None:
        self._numbers[place] = -1
        heappush(self._free, place)
        while self.end and self._numbers[self.end - 1] < 0:
            self.end -= 1
