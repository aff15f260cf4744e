"""How far two runs of the same benchmarks agree, whatever noise each of them claims."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

AGREED_FRAC = 0.05  # two runs of the whole on the same machine agree within this
LISTED = 5  # of the figures that are further apart


@dataclass(frozen=True)
class Pair:
    """One figure of both runs; `ratio` is the new one over the old one."""

    name: str
    ratio: float

    @property
    def difference_frac(self) -> float:
        """By how much the larger one is more than the other."""
        return max(self.ratio, 1 / self.ratio) - 1


def agreement(kind: str, pairs: Sequence[Pair]) -> Iterator[str]:
    """How many figures agree, the median and the largest difference, and the worst by name."""
    if not pairs:
        return
    ordered = sorted(pairs, key=lambda pair: pair.difference_frac, reverse=True)
    apart = [pair for pair in ordered if pair.difference_frac > AGREED_FRAC]
    differences = [pair.difference_frac for pair in ordered]
    yield (
        f"agreement of {kind}: {len(pairs) - len(apart)} of {len(pairs)} within "
        f"{AGREED_FRAC:.0%}, median difference {statistics.median(differences):.1%}, "
        f"largest {differences[0]:.1%}"
    )
    for pair in apart[:LISTED]:
        yield f"  {pair.difference_frac:.0%} apart: {pair.name} is {pair.ratio:.2f}x"
    if len(apart) > LISTED:
        yield f"  and {len(apart) - LISTED} more"
