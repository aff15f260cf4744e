"""Seconds of decode sweeps with drafted rows, by the performance model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from lm_offload.planner.costs.sweep_shape import Piece, SweepShape
from lm_offload.planner.sweeps.sweep_time import SweepTimes

MARGIN = 1.03  # drafts must promise more than what predictions of like sweeps may be off


class VerifyCost(Protocol):
    """What verifying drafts costs, in any unit."""

    def __call__(self, sequences: int, context: int, drafted: int) -> float:
        """The cost of a sweep of so many sequences with `drafted` rows more."""


@dataclass(frozen=True)
class ModelledCost:
    """Seconds of a sweep as planned; each is computed once."""

    times: SweepTimes
    _known: dict[tuple[int, int, int], float] = field(
        default_factory=dict, compare=False, repr=False
    )

    def __call__(self, sequences: int, context: int, drafted: int) -> float:
        """Seconds, with a margin where there are drafts."""
        key = sequences, context, drafted
        if key not in self._known:
            margin = MARGIN if drafted else 1.0
            self._known[key] = margin * self.times.steady(_shape(*key)).total_s
        return self._known[key]


def free_cost(sequences: int, context: int, drafted: int) -> float:
    """Every sweep costs the same, so drafts are as deep as they can be."""
    return 1.0


def _shape(sequences: int, context: int, drafted: int) -> SweepShape:
    """The drafted rows as if one sequence more had all of them."""
    pieces = [Piece(sequences, 1, context), Piece(1, drafted, context)]
    return SweepShape(tuple(pieces if drafted else pieces[:1]), sequences + drafted)
