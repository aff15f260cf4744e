"""Which blocks are next to one another: the steps of a descent by simulation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

Cut = tuple[int, int]  # size and number of micro-batches


def neighbours(cut: Cut, sizes: Sequence[int], counts: Sequence[int]) -> Iterator[Cut]:
    """One step in size or number, or as many sequences cut into larger or smaller pieces.

    `sizes` and `counts` ascend and hold those of the cut.
    """
    size, count = cut
    for other in _beside(size, sizes):
        yield other, count
        same = size * count / other
        yield other, min(counts, key=lambda number: abs(number - same))
    for number in _beside(count, counts):
        yield size, number


def _beside(value: int, values: Sequence[int]) -> list[int]:
    place = values.index(value)
    return [*values[max(place - 1, 0) : place], *values[place + 1 : place + 2]]
