"""Which units stay in memory: as many bytes as fit, spread evenly over the sweep.

The sweep is cyclic, so no unit is worth more than another of its size; least-recently-used
eviction would throw out just what comes next. Spread evenly, streamed units alternate with
resident ones and a small ring is enough to keep the disk busy all the time::

    units     0  1  2  3  4  5  6  7        half of the bytes fit
    resident     x     x     x     x        the disk reads 2 while 0 and 1 compute

Sizes differ, though (A attention, M MLP), and computing takes its own time of each. TPI-LLM
(2410.00531) retains every T-th MLP so that loads and computes balance; here the small units or the
large ones may be streamed first, and the planner simulates all three::

    units     A  M  A  M  A  M  A  M        even: by bytes
    small     r     r     r     r           a ring of small units leaves memory for large ones
    large        r     r     r     r        computes of small units hide behind reads of large ones
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Literal

Order = Literal["even", "small first", "large first"]  # in which units are chosen to be streamed

ALIKE = 1.05  # units of one kind differ by this factor at most, for pages are read whole
LEAST_FRAC = 1 / 16  # of the largest unit: smaller ones are not worth a read of their own


@dataclass(frozen=True)
class Residency:
    """Indices of the resident units and the size of the ring for the others."""

    resident: frozenset[int]
    ring_bytes: int
    order: Order = field(default="even", compare=False)


def choose_residency(
    sizes_bytes: Sequence[int], budget_bytes: int, ring_depth: int
) -> Residency | None:
    """The resident set for `budget_bytes` of weights and ring, or None if not even a ring fits.

    `ring_depth` is how many consecutive streamed units the ring holds: one computes while the
    others are read.
    """
    everything = frozenset(range(len(sizes_bytes)))
    if sum(sizes_bytes) <= budget_bytes:
        return Residency(everything, 0)
    best = None
    ring_bytes = largest_ring_bytes(sizes_bytes, ring_depth)
    for _ in range(3):  # the ring shrinks with the streamed set, which leaves room for more
        if ring_bytes > budget_bytes:
            break
        known_bytes, resident = ring_bytes, _spread(sizes_bytes, budget_bytes - ring_bytes)
        ring_bytes = _ring_bytes(sizes_bytes, everything - resident, ring_depth)
        best = _better(sizes_bytes, budget_bytes, best, Residency(resident, ring_bytes))
        if ring_bytes == known_bytes:
            break
    return best


def choose_among(
    units: Sequence[int], sizes_bytes: Sequence[int], budget_bytes: int, ring_depth: int
) -> Residency | None:
    """As many of some units as fit beside a ring for any others; None where only that fits."""
    ring_bytes = largest_ring_bytes(sizes_bytes, ring_depth)
    if not units or budget_bytes <= ring_bytes:
        return None
    chosen = _spread([sizes_bytes[unit] for unit in units], budget_bytes - ring_bytes)
    return Residency(frozenset(map(units.__getitem__, chosen)), ring_bytes) if chosen else None


def residencies(
    sizes_bytes: Sequence[int], budget_bytes: int, ring_depth: int
) -> Iterator[Residency]:
    """What is worth simulating for `choose_residency`'s arguments; empty if not even a ring fits.

    The even spread comes first.
    """
    even = choose_residency(sizes_bytes, budget_bytes, ring_depth)
    if even is None:
        return
    yield even
    if len(even.resident) == len(sizes_bytes):
        return
    kinds = _kinds(sizes_bytes)
    orders: dict[Order, list[list[int]]] = {"small first": kinds, "large first": kinds[::-1]}
    known = {even}
    for order, units in orders.items():
        chosen = _stream_in_order(sizes_bytes, budget_bytes, ring_depth, units)
        if chosen is not None and chosen not in known:
            known.add(chosen)
            yield replace(chosen, order=order)


def _kinds(sizes_bytes: Sequence[int]) -> list[list[int]]:
    """Units of about one size, the smallest first; what is too small to be read is left out."""
    least_bytes, kinds = LEAST_FRAC * max(sizes_bytes), list[list[int]]()
    for unit in sorted(range(len(sizes_bytes)), key=sizes_bytes.__getitem__):
        if kinds and sizes_bytes[unit] <= ALIKE * sizes_bytes[kinds[-1][0]]:
            kinds[-1].append(unit)
        elif sizes_bytes[unit] >= least_bytes:
            kinds.append([unit])
    return [sorted(kind) for kind in kinds]


def _stream_in_order(
    sizes_bytes: Sequence[int], budget_bytes: int, depth: int, kinds: Sequence[Sequence[int]]
) -> Residency | None:
    """As few units streamed as fit: whole kinds in order, the last of them spread evenly."""
    room_bytes = budget_bytes - sum(sizes_bytes)
    for streamed in _enough(sizes_bytes, -room_bytes, kinds):
        ring_bytes = _ring_bytes(sizes_bytes, streamed, depth)
        if ring_bytes <= room_bytes + sum(map(sizes_bytes.__getitem__, streamed)):
            return Residency(frozenset(range(len(sizes_bytes))).difference(streamed), ring_bytes)
    return None


def _enough(
    sizes_bytes: Sequence[int], least_bytes: int, kinds: Sequence[Sequence[int]]
) -> Iterator[list[int]]:
    """One unit more each time, from about `least_bytes` on."""
    growing = accumulate(sizes_bytes[unit] for kind in kinds for unit in kind)
    few = sum(size_bytes < least_bytes / ALIKE for size_bytes in growing)
    for count in range(few + 1, sum(map(len, kinds)) + 1):
        yield [*_first_units(kinds, count)]


def _first_units(kinds: Sequence[Sequence[int]], count: int) -> Iterator[int]:
    """`count` units: those of the first kinds, of the last one as far apart as can be."""
    for kind in kinds:
        if count < len(kind):
            yield from (kind[(2 * place + 1) * len(kind) // (2 * count)] for place in range(count))
            return
        yield from kind
        count -= len(kind)


def _bytes_of(sizes_bytes: Sequence[int], chosen: Residency) -> int:
    return chosen.ring_bytes + sum(map(sizes_bytes.__getitem__, chosen.resident))


def _better(
    sizes_bytes: Sequence[int], budget_bytes: int, best: Residency | None, other: Residency
) -> Residency | None:
    """The one with more resident bytes; `other` only if its ring still fits beside them."""
    other_bytes = _bytes_of(sizes_bytes, other)
    if other_bytes > budget_bytes:
        return best
    if best is None or other_bytes - other.ring_bytes > (
        _bytes_of(sizes_bytes, best) - best.ring_bytes
    ):
        return other
    return best


def _spread(sizes_bytes: Sequence[int], budget_bytes: int) -> frozenset[int]:
    """Units taken at an even rate by bytes, then the largest others that still fit."""
    share = budget_bytes / sum(sizes_bytes)
    credit_bytes, used_bytes = 0.0, 0
    taken = set()
    for unit, size_bytes in enumerate(sizes_bytes):
        credit_bytes += share * size_bytes
        if size_bytes <= credit_bytes:
            credit_bytes -= size_bytes
            used_bytes += size_bytes
            taken.add(unit)
    left = [unit for unit in range(len(sizes_bytes)) if unit not in taken]
    for unit in sorted(left, key=sizes_bytes.__getitem__, reverse=True):
        if used_bytes + sizes_bytes[unit] <= budget_bytes:
            used_bytes += sizes_bytes[unit]
            taken.add(unit)
    return frozenset(taken)


def largest_ring_bytes(sizes_bytes: Sequence[int], depth: int) -> int:
    """Enough for any streamed set."""
    return sum(sorted(sizes_bytes)[-depth:])


def _ring_bytes(sizes_bytes: Sequence[int], streamed: Iterable[int], depth: int) -> int:
    """The most bytes that `depth` consecutive streamed units take, the sweep being cyclic."""
    sizes = [sizes_bytes[unit] for unit in sorted(streamed)]
    shifted = [sizes[shift:] + sizes[:shift] for shift in range(min(depth, len(sizes)))]
    return max(map(sum, zip(*shifted, strict=True)), default=0)
