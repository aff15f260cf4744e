"""Which units are streamed where those of one size are to be streamed before others.

The last kind of unit may be one too many: some smaller units may do instead, or not all of those
that came before::

    units     A  M  A  M  A  M  A  M        large first, and A is enough for what is left
    large     r     r     r  r
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

from lm_offload.planner.costs.ring_depth import RingDepth

ALIKE = 1.05  # units of one kind differ by this factor at most, for pages are read whole
LEAST_FRAC = 1 / 16  # of the largest unit: smaller ones are not worth a read of their own


def kinds_of(sizes_bytes: Sequence[int]) -> list[list[int]]:
    """Units of about one size, the smallest first; what is too small to be read is left out."""
    least_bytes, kinds = LEAST_FRAC * max(sizes_bytes), list[list[int]]()
    for unit in sorted(range(len(sizes_bytes)), key=sizes_bytes.__getitem__):
        if kinds and sizes_bytes[unit] <= ALIKE * sizes_bytes[kinds[-1][0]]:
            kinds[-1].append(unit)
        elif sizes_bytes[unit] >= least_bytes:
            kinds.append([unit])
    return [sorted(kind) for kind in kinds]


def streamed_in_order(
    sizes_bytes: Sequence[int], budget_bytes: int, depth: RingDepth, kinds: Sequence[Sequence[int]]
) -> list[int] | None:
    """As few units as fit, or None: whole kinds in order, the last of them spread evenly."""
    room_bytes = budget_bytes - sum(sizes_bytes)
    for streamed in _enough(sizes_bytes, -room_bytes, kinds):
        left_bytes = room_bytes + sum_of(sizes_bytes, streamed)
        if depth.bytes_of(sizes_of(sizes_bytes, streamed)) <= left_bytes:
            return _without_most(sizes_bytes, left_bytes, depth, streamed)
    return None


def _without_most(
    sizes_bytes: Sequence[int], left_bytes: int, depth: RingDepth, streamed: list[int]
) -> list[int]:
    """The same without those that fit beside the ring, the largest first."""
    ring_bytes = depth.bytes_of(sizes_of(sizes_bytes, streamed))
    for unit in sorted(streamed, key=sizes_bytes.__getitem__, reverse=True):
        if sizes_bytes[unit] <= left_bytes - ring_bytes:
            fewer = [other for other in streamed if other != unit]
            rest_bytes = depth.bytes_of(sizes_of(sizes_bytes, fewer))
            if rest_bytes <= left_bytes - sizes_bytes[unit]:
                streamed, ring_bytes = fewer, rest_bytes
                left_bytes -= sizes_bytes[unit]
    return streamed


def _enough(
    sizes_bytes: Sequence[int], least_bytes: int, kinds: Sequence[Sequence[int]]
) -> Iterator[list[int]]:
    """One unit more each time, or smaller ones instead of it, from about `least_bytes` on."""
    growing = accumulate(sizes_bytes[unit] for kind in kinds for unit in kind)
    few = sum(size_bytes < least_bytes / ALIKE for size_bytes in growing)
    for count in range(few + 1, sum(map(len, kinds)) + 1):
        before, found = [*_first_units(kinds, count - 1)], [*_first_units(kinds, count)]
        last_bytes = sum_of(sizes_bytes, found) - sum_of(sizes_bytes, before)
        for instead in _instead(sizes_bytes, last_bytes, kinds, frozenset(before)):
            yield before + instead
        yield found


def _instead(
    sizes_bytes: Sequence[int],
    unit_bytes: int,
    kinds: Sequence[Sequence[int]],
    taken: frozenset[int],
) -> list[list[int]]:
    """Units of one kind that are smaller than one of `unit_bytes` together; the least first."""
    found = []
    for kind in kinds:
        most = min((unit_bytes - 1) // sizes_bytes[kind[0]], len(kind))
        if taken.isdisjoint(kind):
            found += [[*_spread_evenly(kind, count)] for count in range(1, most + 1)]
    return sorted(found, key=lambda units: sum_of(sizes_bytes, units))


def _first_units(kinds: Sequence[Sequence[int]], count: int) -> Iterator[int]:
    """`count` units: those of the first kinds, of the last one as far apart as can be."""
    for kind in kinds:
        if count < len(kind):
            yield from _spread_evenly(kind, count)
            return
        yield from kind
        count -= len(kind)


def _spread_evenly(units: Sequence[int], count: int) -> Iterator[int]:
    """`count` of some units, as far apart as can be."""
    return (units[(2 * place + 1) * len(units) // (2 * count)] for place in range(count))


def sizes_of(sizes_bytes: Sequence[int], units: Iterable[int]) -> list[int]:
    """The sizes of some units, in order of use."""
    return [sizes_bytes[unit] for unit in sorted(units)]


def sum_of(sizes_bytes: Sequence[int], units: Iterable[int]) -> int:
    """The bytes of some units together."""
    return sum(map(sizes_bytes.__getitem__, units))
