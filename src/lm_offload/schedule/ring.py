"""Addresses in the staging ring: a queue of units in one block of memory.

Units are placed one behind the other and stay in one piece; one that does not fit before the
end starts again at zero. Placing a unit says which earlier ones lay there and so must have been
computed before it may be read::

    |  u0  |    u1    |  u2  |..|     u3 does not fit in the rest: it goes to 0, after u0 and u1
    |    u3     |.....|  u2  |..|
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple


class Key(NamedTuple):
    """A unit as used in one sweep, or a part of it."""

    sweep: int
    unit: int
    part: int = 0


class Ring:
    """Hands out addresses in the order of use. Pure arithmetic, no memory behind it."""

    def __init__(self, capacity_bytes: int) -> None:
        self.capacity_bytes = capacity_bytes
        self._placed: deque[tuple[Key, int]] = deque()  # oldest first, with offsets
        self._next = 0

    def place(self, key: Key, size_bytes: int) -> tuple[int, list[Key]]:
        """The offset of a unit of `size_bytes`, and the units whose place it takes."""
        if size_bytes > self.capacity_bytes:
            raise ValueError(f"unit of {size_bytes} bytes in a ring of {self.capacity_bytes}")
        evicted: list[Key] = []
        if self._next + size_bytes > self.capacity_bytes:
            evicted += self._evict(self._next, self.capacity_bytes)
            self._next = 0
        offset, self._next = self._next, self._next + size_bytes
        evicted += self._evict(offset, self._next)
        self._placed.append((key, offset))
        return offset, evicted

    def _evict(self, start: int, stop: int) -> list[Key]:
        """Drop the oldest units while they begin in [start, stop): the ring is in FIFO order."""
        evicted = []
        while self._placed and start <= self._placed[0][1] < stop:
            evicted.append(self._placed.popleft()[0])
        return evicted
