"""Addresses in the staging ring of units that are read in parts.

A read of a whole unit would wait until all of its place is free, while the disk has nothing to do.
Here each part waits for its own place alone, those that wait least come first, and a unit that does
not fit before the end may lie at the end as well as at the start::

    |        u0        |....|      a ring with room for a unit and a part of another
    |....|        u1        |      its last part is read while u0 computes, the others after that
    |        u2        |....|      its first part while u1 computes
"""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import NamedTuple

from lm_offload.schedule.ring import Key

MOST_PARTS = 8  # each is a task, which takes time to hand over and to simulate


class Part(NamedTuple):
    """So many bytes of a unit, from `unit_offset` on, whose place is free when `gate` has left."""

    unit_offset: int
    size_bytes: int
    gate: Key | None


class _Placed(NamedTuple):
    key: Key
    start: int
    stop: int


class PartRing:
    """Hands out addresses in the order of use. Pure arithmetic, no memory behind it."""

    def __init__(self, capacity_bytes: int, in_flight_bytes: int) -> None:
        self.capacity_bytes = capacity_bytes
        self._in_flight_bytes = in_flight_bytes
        self._placed: list[_Placed] = []  # oldest first, and that is how they leave
        self._next = 0

    def place(self, key: Key, size_bytes: int) -> tuple[int, list[Part]]:
        """The offset of a unit of `size_bytes`, and its parts in the order of reading."""
        if size_bytes > self.capacity_bytes:
            raise ValueError(f"unit of {size_bytes} bytes in a ring of {self.capacity_bytes}")
        parts = parts_of(size_bytes, self._in_flight_bytes)
        gates = {offset: self._gates(offset, parts) for offset in self._offsets(size_bytes)}
        offset = min(gates, key=lambda offset: (max(gates[offset]), sorted(gates[offset])))
        cut = sorted(zip(gates[offset], accumulate(parts, initial=0), parts, strict=False))
        keys = {-1: None, **{number: old.key for number, old in enumerate(self._placed)}}
        self._placed = self._placed[max(gates[offset]) + 1 :]  # what is read later waits for those
        self._next = offset + size_bytes
        self._placed.append(_Placed(key, offset, self._next))
        return offset, [Part(start, part_bytes, keys[gate]) for gate, start, part_bytes in cut]

    def _offsets(self, size_bytes: int) -> tuple[int, ...]:
        """Behind the last unit or, where the ring ends before that, at its start or its end."""
        last = self.capacity_bytes - size_bytes
        return (self._next,) if self._next <= last else (0, last)

    def _gates(self, offset: int, parts: tuple[int, ...]) -> list[int]:
        """For each part the last of those placed that lies in its place; -1 where none does."""
        return [self._last_in(*ends) for ends in pairwise(accumulate(parts, initial=offset))]

    def _last_in(self, start: int, stop: int) -> int:
        placed = enumerate(self._placed)
        taken = (number for number, old in placed if old.start < stop and old.stop > start)
        return max(taken, default=-1)


def parts_of(size_bytes: int, in_flight_bytes: int) -> tuple[int, ...]:
    """Bytes of the parts of a unit: equal, in multiples of `in_flight_bytes`, but for the last one.

    So many are in flight at once, and no part is smaller; so a small unit has one part.
    """
    count = min(size_bytes // in_flight_bytes, MOST_PARTS)
    if count < 2:
        return (size_bytes,)
    part_bytes = size_bytes // count // in_flight_bytes * in_flight_bytes
    return (*[part_bytes] * (count - 1), size_bytes - (count - 1) * part_bytes)
