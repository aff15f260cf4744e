"""Sums in an order that does not depend on the machine, so that what is rounded has the same bits.

Sixteen partial sums go along the columns, as vectors of sixteen do; then halves are added::

    partial   x0 + x16 + x32 + ..   x1 + x17 + ..   ..   x15 + x31 + ..
    sum       of lanes j and j + 8; then of j and j + 2 in each four, of neighbours, of both fours
"""

from __future__ import annotations

from torch import Tensor

LANES = 16


def row_sums(values: Tensor) -> Tensor:
    """Of f32 [G, n], as [G, 1]; n is a multiple of 16."""
    rows = len(values)
    partial = _partial_sums(values.view(rows, -1, LANES))
    fours = (partial[:, :8] + partial[:, 8:]).view(rows, 2, 4)
    pairs = fours[..., :2] + fours[..., 2:]
    singles = pairs[..., 0] + pairs[..., 1]
    return singles[:, :1] + singles[:, 1:]


def _partial_sums(values: Tensor) -> Tensor:
    """[G, m, 16] as [G, 16], one after the other."""
    first, *others = values.transpose(0, 1).contiguous().unbind()
    total = first + 0.0  # which has no negative zero
    for other in others:
        total.add_(other)
    return total
