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

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from lm_offload.planner.costs.ring_depth import RingDepth
from lm_offload.planner.places.streamed_order import kinds_of, sizes_of, streamed_in_order, sum_of

Order = Literal["even", "small first", "large first"]  # in which units are chosen to be streamed


@dataclass(frozen=True)
class Residency:
    """Indices of the resident units and the size of the ring for the others."""

    resident: frozenset[int]
    ring_bytes: int
    order: Order = field(default="even", compare=False)


def choose_residency(
    sizes_bytes: Sequence[int], budget_bytes: int, ring_depth: RingDepth
) -> Residency | None:
    """The resident set for `budget_bytes` of weights and ring, or None if not even a ring fits.

    `ring_depth` is what the ring holds of consecutive streamed units: one computes while others
    are read.
    """
    everything = frozenset(range(len(sizes_bytes)))
    if sum(sizes_bytes) <= budget_bytes:
        return Residency(everything, 0)
    best = None
    ring_bytes = ring_depth.largest_bytes(sizes_bytes)
    for _ in range(3):  # the ring shrinks with the streamed set, which leaves room for more
        if ring_bytes > budget_bytes:
            break
        known_bytes, resident = ring_bytes, _spread(sizes_bytes, budget_bytes - ring_bytes)
        ring_bytes = ring_depth.bytes_of(sizes_of(sizes_bytes, everything - resident))
        best = _better(sizes_bytes, budget_bytes, best, Residency(resident, ring_bytes))
        if ring_bytes == known_bytes:
            break
    return best


def choose_among(
    units: Sequence[int], sizes_bytes: Sequence[int], budget_bytes: int, ring_depth: RingDepth
) -> Residency | None:
    """As many of some units as fit beside a ring for any others; None where only that fits."""
    ring_bytes = ring_depth.largest_bytes(sizes_bytes)
    if not units or budget_bytes <= ring_bytes:
        return None
    chosen = _spread([sizes_bytes[unit] for unit in units], budget_bytes - ring_bytes)
    return Residency(frozenset(map(units.__getitem__, chosen)), ring_bytes) if chosen else None


def residencies(
    sizes_bytes: Sequence[int], budget_bytes: int, ring_depth: RingDepth
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
    kinds = kinds_of(sizes_bytes)
    orders: dict[Order, list[list[int]]] = {"small first": kinds, "large first": kinds[::-1]}
    known = {even}
    for order, units in orders.items():
        streamed = streamed_in_order(sizes_bytes, budget_bytes, ring_depth, units)
        if streamed is None:
            continue
        ring_bytes = ring_depth.bytes_of(sizes_of(sizes_bytes, streamed))
        chosen = Residency(frozenset(range(len(sizes_bytes))).difference(streamed), ring_bytes)
        if chosen not in known:
            known.add(chosen)
            yield replace(chosen, order=order)


def _bytes_of(sizes_bytes: Sequence[int], chosen: Residency) -> int:
    return chosen.ring_bytes + sum_of(sizes_bytes, chosen.resident)


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
