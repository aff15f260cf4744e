"""How many tokens to draft for each sequence of a sweep.

::

    tokens/s of m drafted rows = (S + sum of the m best gains) / seconds of the sweep with m more

The j-th drafted token of a sequence gains chance^j: it counts only if all before it are right.
Where a model drafts, the seconds of its steps come on top: one step for each place, in which all
sequences take part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heapify, heapreplace
from typing import NamedTuple


class Offer(NamedTuple):
    """What one sequence could draft: at most `limit` tokens, each right with `chance`.

    Drafting one more for this and any number of other sequences takes `step_s`.
    """

    chance: float
    limit: int
    step_s: float = 0.0


class Choice(NamedTuple):
    """What is predicted of some depths."""

    tokens_per_s: float
    depths: list[int]


def choose_depths(
    offers: Sequence[Offer], sequences: int, most: int, sweep_s: Callable[[int], float]
) -> list[int]:
    """Tokens to draft for each offer, together at most `most`, for the most tokens per second.

    `sweep_s` is the time of a sweep by its drafted rows; all S `sequences` give a token anyway.
    """
    return best_choice(offers, sequences, most, sweep_s).depths


def best_choice(
    offers: Sequence[Offer], sequences: int, most: int, sweep_s: Callable[[int], float]
) -> Choice:
    """The depths of `choose_depths`, and what they are predicted to give."""
    ways = [offers]
    if any(offer.step_s for offer in offers):
        ways.append([offer if not offer.step_s else offer._replace(limit=0) for offer in offers])
    return max(_best_prefix(way, sequences, most, sweep_s) for way in ways)


def _best_prefix(
    offers: Sequence[Offer], sequences: int, most: int, sweep_s: Callable[[int], float]
) -> Choice:
    """The best first tokens of all, taken by what they gain."""
    tokens, best, chosen, drafting_s = float(sequences), sequences / sweep_s(0), 0, 0.0
    order = _by_gain(offers, most)
    for rows, (gain, index, depth) in enumerate(order, start=1):
        tokens += gain
        drafting_s = max(drafting_s, depth * offers[index].step_s)
        if (rate := tokens / (sweep_s(rows) + drafting_s)) > best:
            best, chosen = rate, rows
    depths = [0] * len(offers)
    for _, index, _ in order[:chosen]:
        depths[index] += 1
    return Choice(best, depths)


def _by_gain(offers: Sequence[Offer], most: int) -> list[tuple[float, int, int]]:
    """Gain, offer and depth of the best drafted tokens, best first."""
    heap = [(-offer.chance, index, 1) for index, offer in enumerate(offers) if offer.limit > 0]
    heapify(heap)
    order: list[tuple[float, int, int]] = []
    while heap and len(order) < most and heap[0][0] < 0:
        loss, index, depth = heap[0]
        order.append((-loss, index, depth))
        chance, limit, _ = offers[index]
        heapreplace(heap, (loss * chance if depth < limit else 0.0, index, depth + 1))
    return order
