"""Which streamed units stay in memory that is lent to them while its owner does not need it.

Keeping a unit costs nothing, since it is read anyway, only to another place; giving it up costs
nothing, since the disk has it. So all there is to decide is how many are kept, in a fixed order and
each at a fixed place, the first one at the end of the memory::

    memory  | owner's . . . . | third | second | first |      the owner grows from the left

However many are kept, they are spread evenly over the sweep, as resident units are, so that what is
still read is too: the next one is that whose middle is farthest, by bytes around the cyclic sweep,
from the middles of those before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Lending:
    """Units in the order in which they are taken in, and their places in memory of `size_bytes`."""

    size_bytes: int
    units: tuple[int, ...]
    offsets: tuple[int, ...]  # the later a unit is taken in, the smaller

    def fitting(self, used_bytes: int) -> int:
        """How many of the units have their places behind the first `used_bytes`."""
        return sum(offset >= used_bytes for offset in self.offsets)

    def choose(self, now: int, near_bytes: int, far_bytes: int) -> int:
        """How many are kept when there are `now`.

        They stay unless the owner may need their places for the next sweep (`near_bytes` from the
        start) and come if it will not need them for some sweeps (`far_bytes`).
        """
        return max(min(now, self.fitting(near_bytes)), self.fitting(far_bytes))

    def start_bytes(self, count: int) -> int:
        """Where the places of the first `count` units begin."""
        return self.offsets[count - 1] if count else self.size_bytes


def lend(streamed_bytes: Mapping[int, int], size_bytes: int) -> Lending:
    """Places for as many units as find room in `size_bytes`; sizes of whole pages stay aligned."""
    units, offsets, offset = [], [], size_bytes
    for unit in spread_order(streamed_bytes):
        offset -= streamed_bytes[unit]
        if offset < 0:
            break
        units.append(unit)
        offsets.append(offset)
    return Lending(size_bytes, tuple(units), tuple(offsets))


def spread_order(sizes_bytes: Mapping[int, int]) -> list[int]:
    """All units, the largest first, each next one as far as can be from those before it."""
    total_bytes, middles, start = sum(sizes_bytes.values()), dict[int, float](), 0
    for unit, size_bytes in sorted(sizes_bytes.items()):
        middles[unit] = start + size_bytes / 2
        start += size_bytes
    apart = dict.fromkeys(middles, float(total_bytes))  # from the nearest one before
    order = []
    while apart:
        unit = max(apart, key=lambda one: (apart[one], sizes_bytes[one]))
        del apart[unit]
        order.append(unit)
        for other in apart:
            forward = abs(middles[unit] - middles[other])
            apart[other] = min(apart[other], forward, total_bytes - forward)
    return order
