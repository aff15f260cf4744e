"""How many tokens to draft for each sequence of a sweep.

::

    tokens/s of m drafted rows = (S + sum of the m best gains) / seconds of the sweep with m more

The j-th drafted token of a sequence gains chance^j: it counts only if all before it are right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heapify, heapreplace
from typing import NamedTuple


class Offer(NamedTuple):
    """What one sequence could draft: at most `limit` tokens, each right with `chance`."""

    chance: float
    limit: int


def choose_depths(
    offers: Sequence[Offer], sequences: int, most: int, sweep_s: Callable[[int], float]
) -> list[int]:
    """Tokens to draft for each offer, together at most `most`, for the most tokens per second.

    `sweep_s` is the time of a sweep by its drafted rows; all S `sequences` give a token anyway.
    """
    tokens, best, chosen = float(sequences), sequences / sweep_s(0), 0
    order = _by_gain(offers, most)
    for rows, (gain, _) in enumerate(order, start=1):
        tokens += gain
        if (rate := tokens / sweep_s(rows)) > best:
            best, chosen = rate, rows
    depths = [0] * len(offers)
    for _, index in order[:chosen]:
        depths[index] += 1
    return depths


def _by_gain(offers: Sequence[Offer], most: int) -> list[tuple[float, int]]:
    """Gain and offer of the best drafted tokens, best first."""
    heap = [(-offer.chance, index, 1) for index, offer in enumerate(offers) if offer.limit > 0]
    heapify(heap)
    order: list[tuple[float, int]] = []
    while heap and len(order) < most and heap[0][0] < 0:
        loss, index, depth = heap[0]
        order.append((-loss, index))
        chance, limit = offers[index]
        heapreplace(heap, (loss * chance if depth < limit else 0.0, index, depth + 1))
    return order
