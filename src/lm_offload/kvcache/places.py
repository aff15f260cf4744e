"""Where KV blocks lie when they get a place only with the first token that is put there.

A sequence holds the numbers of all blocks that it can come to need. With the lowest free place for
each that is really used, what nobody has used yet is one piece::

    numbers  A A A A B B B B B B C C C C      held for the longest that A, B and C can become
    places   A B C B A . . . . . . . . .      used so far
                     ^ end
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from heapq import heappop, heappush

import numpy as np
from numpy.typing import NDArray


class BlockPlaces:
    """The place of each block number that has one."""

    def __init__(self, num_blocks: int) -> None:
        self.end = 0  # one past the last place in use
        self._places = np.full(num_blocks, -1, dtype=np.int64)
        self._free = list(range(num_blocks))  # a heap
        self._used = bytearray(num_blocks)

    def claim(self, numbers: Iterable[int]) -> list[int]:
        """Give a place to those that have none; returns the new places."""
        new = []
        for number in numbers:
            if self._places[number] < 0:
                place = heappop(self._free)
                self._places[number], self._used[place] = place, True
                new.append(place)
        self.end = max([self.end, *(place + 1 for place in new)])
        return new

    def drop(self, numbers: Iterable[int]) -> None:
        """Take the places of `numbers` back, as far as they have some."""
        for number in numbers:
            place = int(self._places[number])
            if place >= 0:
                self._places[number], self._used[place] = -1, False
                heappush(self._free, place)
        while self.end and not self._used[self.end - 1]:
            self.end -= 1

    def of(self, numbers: Sequence[int]) -> NDArray[np.int64]:
        """The places of claimed numbers."""
        return self._places[numbers]
