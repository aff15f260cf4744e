"""Which units stay in a tier where some of them are worth more there than others of their size.

Where the CPU computes MLPs in host memory, a byte of attention on the device saves its upload, a
byte of an MLP saves work of the CPU at most::

    device   all attention, then MLPs          host   MLPs, then attention
"""

from __future__ import annotations

from collections.abc import Sequence

from lm_offload.planner.costs.ring_depth import RingDepth
from lm_offload.planner.places.residency import (
    Residency,
    choose_among,
    choose_residency,
)


def choose_in_order(
    sizes_bytes: Sequence[int], first: frozenset[int], budget_bytes: int, ring_depth: RingDepth
) -> Residency | None:
    """As `choose_residency`, with as many units of `first` as fit before any other."""
    ring_bytes = ring_depth.largest_bytes(sizes_bytes)
    if sum(sizes_bytes) <= budget_bytes or ring_bytes > budget_bytes:
        return choose_residency(sizes_bytes, budget_bytes, ring_depth)
    first_bytes = sum(map(sizes_bytes.__getitem__, first))
    others = [unit for unit in range(len(sizes_bytes)) if unit not in first]
    if first_bytes < budget_bytes and others:
        left = [sizes_bytes[unit] for unit in others]
        found = choose_residency(left, budget_bytes - first_bytes, ring_depth)
        if found is not None:
            kept = frozenset(map(others.__getitem__, found.resident))
            return Residency(first | kept, found.ring_bytes)
    some = choose_among(sorted(first), sizes_bytes, budget_bytes, ring_depth)
    return some or choose_residency(sizes_bytes, budget_bytes, ring_depth)
