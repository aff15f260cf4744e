"""What a sweep over a KV cache on disk costs in all: sums over units, without a list of them."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from lm_offload.planner.costs.sweep_shape import SweepShape
from lm_offload.planner.costs.unit_cost import UnitCosts
from lm_offload.planner.sweeps.kv_reads import SpillCosts


class SpillSums(NamedTuple):
    """Seconds of all units; seconds of reads and writes of the cache, and bytes read of it."""

    compute_s: float
    read_s: float = 0.0
    write_s: float = 0.0
    read_bytes: float = 0.0


def spill_sums(
    costs: UnitCosts, spilled: SpillCosts, shape: SweepShape, micro_batch_tokens: int
) -> SpillSums:
    """Attention over a cache on disk uses its weights again for every group."""
    sums = SpillSums(costs.total_s(shape, micro_batch_tokens))
    if not spilled.spill.layers:
        return sums
    for unit, count in _kinds(spilled).items():
        layer = spilled.layer(shape, spilled.windows[unit])
        rows = min(micro_batch_tokens, -(-shape.rows // layer.groups))
        at_once_s = costs.some_s({unit: micro_batch_tokens}, shape)[unit]
        more_s = costs.some_s({unit: rows}, shape)[unit] - at_once_s
        added = more_s, layer.read_s, layer.write_s, layer.read_bytes
        sums = SpillSums(*(old + count * new for old, new in zip(sums, added, strict=True)))
    return sums


def _kinds(spilled: SpillCosts) -> Counter[int]:
    """One unit of those that cost the same, and how many there are."""
    examples: dict[tuple[int | None, int], int] = {}
    units, windows = spilled.model.units, spilled.windows
    kinds = ((unit, (window, units[unit].size_bytes)) for unit, window in windows.items())
    return Counter(examples.setdefault(kind, unit) for unit, kind in kinds)
