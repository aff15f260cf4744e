"""The experts of a model as the planner sees them: many that cost the same, by layers.

A plan says how many of them stay in memory, not which: tokens are taken to choose evenly, so each
is worth as much as any other, and they are spread over the layers. What is in memory else is used
by every token and comes first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from lm_offload.arch.experts import touched_experts

if TYPE_CHECKING:
    from lm_offload.arch.config import ModelConfig
    from lm_offload.planner.costs.model_sizes import UnitSize


@dataclass(frozen=True)
class ExpertSizes:
    """All experts of a model, in order of use."""

    units: Sequence[UnitSize]

    @property
    def example(self) -> UnitSize:
        """One of them."""
        return self.units[0]

    @cached_property
    def largest_bytes(self) -> int:
        """Memory of the largest: files are read in whole pages, so they differ a little."""
        return max(sized.size_bytes for sized in self.units)

    @cached_property
    def total_bytes(self) -> int:
        """Memory of all of them."""
        return sum(sized.size_bytes for sized in self.units)

    @cached_property
    def names(self) -> Sequence[str]:
        """Of each."""
        return [sized.unit.name for sized in self.units]

    def spread(self, count: int) -> frozenset[int]:
        """The numbers of so many, as far from one another as can be."""
        total = len(self.units)
        return frozenset((2 * place + 1) * total // (2 * count) for place in range(count))

    def bytes_of(self, numbers: frozenset[int]) -> int:
        """Memory of some."""
        return sum(self.units[number].size_bytes for number in numbers)


@dataclass(frozen=True)
class ExpertPlacement:
    """The numbers of the experts in memory, and the ring that all others are read into."""

    resident: frozenset[int]
    ring_bytes: int


def used_frac(config: ModelConfig, rows: float) -> float:
    """The share of experts that any of so many rows uses, each choosing evenly."""
    touched = touched_experts(config.num_experts, config.experts_per_token, rows)
    return touched / config.num_experts


def rows_of_used(config: ModelConfig, rows: int) -> tuple[int, int]:
    """Rows of an expert that any of so many uses: the mean less and more a standard deviation.

    Products take longer with more rows in no even way, so their mean is not that of the mean rows.
    """
    used, share = used_frac(config, rows), config.experts_per_token / config.num_experts
    mean = rows * share / used
    squares = rows * share * (1.0 - share + rows * share) / used
    spread = math.sqrt(max(squares - mean**2, 0.0))
    return max(round(mean - spread), 1), max(round(mean + spread), 1)


def most_experts(experts: ExpertSizes, room_bytes: int, depth: int) -> ExpertPlacement | None:
    """As many as fit beside a ring for `depth` others; None where not even a ring of one does."""
    if experts.total_bytes <= room_bytes:
        return ExpertPlacement(frozenset(range(len(experts.units))), 0)
    ring_bytes = depth * experts.largest_bytes
    if ring_bytes > room_bytes:
        return None
    count = min((room_bytes - ring_bytes) // experts.largest_bytes, len(experts.units) - 1)
    return ExpertPlacement(experts.spread(count), ring_bytes)
