"""How far ahead a staging ring lets the disk read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lm_offload.schedule.part_ring import parts_of


@dataclass(frozen=True, order=True)
class RingDepth:
    """Consecutive streamed units that a ring holds, and with some bytes in flight more than that.

    It then holds the first part of the next unit, too: one unit computes while parts are read.
    """

    units: int
    in_flight_bytes: int = 0

    def bytes_of(self, sizes_bytes: Sequence[int]) -> int:
        """What units take that follow one another in sweep after sweep."""
        count = min(self.units, len(sizes_bytes))
        held = [_sum_from(sizes_bytes, first, count) for first in range(len(sizes_bytes))]
        if self.in_flight_bytes and count < len(sizes_bytes):
            nexts = (*sizes_bytes[count:], *sizes_bytes[:count])
            parts = (parts_of(size_bytes, self.in_flight_bytes)[0] for size_bytes in nexts)
            held = [whole + part for whole, part in zip(held, parts, strict=True)]
        return max(held, default=0)

    def largest_bytes(self, sizes_bytes: Sequence[int]) -> int:
        """Enough for any of such units."""
        whole = sum(sorted(sizes_bytes)[-self.units :])
        if not self.in_flight_bytes:
            return whole
        return whole + max(parts_of(size, self.in_flight_bytes)[0] for size in sizes_bytes)


def _sum_from(sizes_bytes: Sequence[int], first: int, count: int) -> int:
    """Of so many, the first following the last."""
    return sum(sizes_bytes[(first + place) % len(sizes_bytes)] for place in range(count))
