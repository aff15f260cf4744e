"""How well predictions put plans in order, against what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

SAME = 0.02  # seconds that differ by less are in no order


@dataclass(frozen=True)
class Ranking:
    """The order of predicted seconds beside that of measured ones."""

    pairs: int  # whose measured seconds differ
    wrong_pairs: int  # of these, those predicted the other way round
    regret: float  # by how much the plan predicted best is slower than the best measured


def ranking_of(predicted_s: Sequence[float], measured_s: Sequence[float]) -> Ranking:
    """Of two plans or more, each with its seconds for one workload."""
    plans = list(zip(predicted_s, measured_s, strict=True))
    differ = [(a, b) for a, b in combinations(plans, 2) if abs(a[1] - b[1]) > SAME * a[1]]
    wrong = sum((a[0] - b[0]) * (a[1] - b[1]) < 0 for a, b in differ)
    chosen_s = min(plans)[1]
    return Ranking(len(differ), wrong, chosen_s / min(measured_s) - 1)
