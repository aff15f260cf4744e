"""Where a sweep is cut in two: the CPU attends to one part while a device computes the other.

A device attends to some of the rows, which come first, and the CPU to the others. With the seconds
of the device, G, and of the CPU, A, for each of two micro-batches a layer takes::

    max(G0 + G1, A0 + A1, G0 + A0 + link, G1 + A1 + link)        0: all that the device attends to
                                                                 1: rows of the CPU alone
NEO's load rule (arXiv:2411.01142) asks for A1 <= G0 and A0 <= G1. The cut at which
G0 + A0 = G1 + A1 keeps to it whenever any does, and is the best one where none does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from lm_offload.device_plan import TurnCosts


class Seen(NamedTuple):
    """Rows, and the tokens that they see, summed over rows."""

    rows: float
    tokens: float


def first_turn_rows(costs: TurnCosts, own: Seen, others: Sequence[Seen]) -> int:
    """Rows of the first micro-batch: those of the device, `own`, and the first of the CPU's."""
    own_s = own.rows * costs.row_s + own.tokens * costs.device_token_s
    others_s = [seen.rows * costs.row_s + seen.tokens * costs.cpu_token_s for seen in others]
    left_s, rows = max((sum(others_s) - own_s) / 2, 0.0), own.rows
    for seen, seconds in zip(others, others_s, strict=True):
        if seconds >= left_s:
            return round(rows + seen.rows * (left_s / seconds if seconds else 0.0))
        left_s, rows = left_s - seconds, rows + seen.rows
    return round(rows)
