"""Where the blocks of spilled layers lie in their file, and what of it is kept for a while.

A number has a place of its own until a slot keeps what is there. Such a place belongs to the number
and to the slot, and nobody writes to it any more, since only full blocks are kept: a number that is
handed out anew gets another place, and one that the slot is read into gets this one::

    number  0 1 2 3        0 1 2 3            0 1 2 3           0 1 2 3
    place   0 1 2 3   ->   0 1 2 3     ->     0 4 2 3    ->     0 4 2 1
    slot                     ^ keeps 1          ^ handed out          ^ has the slot's content
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heappop, heappush

import numpy as np

NOTHING = -1


class FilePlaces:
    """Places of `num_blocks` numbers; with those that slots keep there are twice as many."""

    def __init__(self, num_blocks: int) -> None:
        self.of = np.arange(num_blocks)  # by number
        self._kept = np.full(num_blocks, NOTHING)  # by slot
        self._users = np.repeat([1, 0], num_blocks)  # numbers and slots of each place
        self._free = list(range(num_blocks, 2 * num_blocks))  # a heap

    def keep(self, number: int, slot: int) -> None:
        """From now on a slot has what is in the place of a number, instead of what it had."""
        place = int(self.of[number])
        self._users[place] += 1
        self._leave(int(self._kept[slot]))
        self._kept[slot] = place

    def give(self, slot: int, number: int) -> None:
        """What a slot keeps is also that of a number."""
        place = int(self._kept[slot])
        self._users[place] += 1
        self._leave(int(self.of[number]))
        self.of[number] = place

    def renew(self, numbers: Iterable[int]) -> None:
        """Numbers whose content is not wanted any more: each gets a place of its own."""
        for number in numbers:
            place = int(self.of[number])
            if self._users[place] > 1:
                self._leave(place)
                self.of[number] = heappop(self._free)
                self._users[self.of[number]] = 1

    def _leave(self, place: int) -> None:
        if place == NOTHING:
            return
        self._users[place] -= 1
        if not self._users[place]:
            heappush(self._free, place)
