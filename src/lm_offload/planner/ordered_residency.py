"""Which units stay in a tier where some of them are worth more there than others of their size.

Where the CPU computes MLPs in host memory, a byte of attention on the device saves its upload, a
byte of an MLP saves work of the CPU at most::

    device   all attention, then MLPs          host   MLPs, then attention
"""

from __future__ import annotations

from collections.abc import Sequence

from lm_offload.planner.residency import Residency, choose_residency


def choose_in_order(
    sizes_bytes: Sequence[int], first: frozenset[int], budget_bytes: int, ring_depth: int
) -> Residency | None:
    """As `choose_residency`, with as many units of `first` as fit before any other."""
    even = choose_residency(sizes_bytes, budget_bytes, ring_depth)
    if even is None or len(even.resident) == len(sizes_bytes):
        return even
    first_bytes = sum(sizes_bytes[unit] for unit in first)
    others = [unit for unit in range(len(sizes_bytes)) if unit not in first]
    if first_bytes < budget_bytes and others:
        left = [sizes_bytes[unit] for unit in others]
        found = choose_residency(left, budget_bytes - first_bytes, ring_depth)
        if found is not None:
            kept = frozenset(others[index] for index in found.resident)
            return Residency(first | kept, found.ring_bytes)
    return _some_of(sizes_bytes, sorted(first), budget_bytes, ring_depth) or even


def _some_of(
    sizes_bytes: Sequence[int], first: Sequence[int], budget_bytes: int, ring_depth: int
) -> Residency | None:
    """Beside a ring for any units, as many of `first` as fit."""
    ring_bytes = sum(sorted(sizes_bytes)[-ring_depth:])
    if not first or budget_bytes <= ring_bytes:
        return None
    found = choose_residency([sizes_bytes[unit] for unit in first], budget_bytes - ring_bytes, 1)
    if found is None:
        return None
    return Residency(frozenset(first[index] for index in found.resident), ring_bytes)
