"""Which units stay in memory: as many bytes as fit, spread evenly over the sweep.

The sweep is cyclic, so no unit is worth more than another of its size; least-recently-used
eviction would throw out just what comes next. Spread evenly, streamed units alternate with
resident ones and a small ring is enough to keep the disk busy all the time::

    units     0  1  2  3  4  5  6  7        half of the bytes fit
    resident     x     x     x     x        the disk reads 2 while 0 and 1 compute
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Residency:
    """Indices of the resident units and the size of the ring for the others."""

    resident: frozenset[int]
    ring_bytes: int


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
    ring_bytes = sum(sorted(sizes_bytes)[-ring_depth:])  # enough for any streamed set
    for _ in range(3):  # the ring shrinks with the streamed set, which leaves room for more
        if ring_bytes <= budget_bytes:
            resident = _spread(sizes_bytes, budget_bytes - ring_bytes)
            ring_bytes = _ring_bytes(sizes_bytes, everything - resident, ring_depth)
            best = _better(sizes_bytes, budget_bytes, best, Residency(resident, ring_bytes))
    return best


def _better(
    sizes_bytes: Sequence[int], budget_bytes: int, best: Residency | None, other: Residency
) -> Residency | None:
    """The one with more resident bytes; `other` only if its ring still fits beside them."""
    other_bytes = sum(sizes_bytes[unit] for unit in other.resident)
    if other_bytes + other.ring_bytes > budget_bytes:
        return best
    if best is None or other_bytes > sum(sizes_bytes[unit] for unit in best.resident):
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
    for unit in sorted(range(len(sizes_bytes)), key=lambda unit: -sizes_bytes[unit]):
        if unit not in taken and used_bytes + sizes_bytes[unit] <= budget_bytes:
            used_bytes += sizes_bytes[unit]
            taken.add(unit)
    return frozenset(taken)


def _ring_bytes(sizes_bytes: Sequence[int], streamed: frozenset[int], depth: int) -> int:
    """The most bytes that `depth` consecutive streamed units take, the sweep being cyclic."""
    sizes = [sizes_bytes[unit] for unit in sorted(streamed)]
    depth = min(depth, len(sizes))
    cyclic = sizes + sizes[:depth]
    return max((sum(cyclic[start : start + depth]) for start in range(len(sizes))), default=0)
