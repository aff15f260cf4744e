"""Rows of embedding tables for a sweep: those on disk are fetched for all micro-batches at once.

Each micro-batch by itself would read many pieces of the table again. Hidden states that are not
computed yet are memory that nobody needs, and so are the inputs of single layers: the bytes of a
row's embeddings wait there, those of several tables side by side::

    hidden[T, H] f32   | tokens | positions |  free  |
    inputs[T, L] f32   | layer_tokens       |  free  |
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from lm_offload.storage.row_table import RowTable
from lm_offload.storage.weight_store import Rows


class SweepRows:
    """Finds rows of `tables`, by role."""

    def __init__(
        self,
        tables: Mapping[str, Rows],
        hidden: Tensor | None = None,
        requests: int = 1,
        inputs: Tensor | None = None,
    ) -> None:
        """`hidden` [T, H] f32 are those of a sweep if the CPU computes them.

        `requests` at once are what memory is planned for, `inputs` f32 [T, ...] those of layers.
        """
        self._tables = tables
        self._requests = requests
        self._places = _places(tables, [it for it in (hidden, inputs) if it is not None])
        self._fetched = frozenset[str]()

    @property
    def may_fetch(self) -> bool:
        """Whether rows of any table can be fetched for a whole sweep."""
        return bool(self._places)

    def begin(self, wanted: Mapping[str, Tensor]) -> None:
        """Fetch all rows of a sweep that lie on disk: row numbers [T] int64 by role, or nothing."""
        for role in self._places.keys() & wanted.keys():
            place, indices = self._places[role], wanted[role]
            place.table.fetch(indices, place.memory[: len(indices)], self._requests)
        self._fetched = frozenset(wanted)

    def take(self, role: str, indices: Tensor, start: int) -> Tensor:
        """Rows [M, width] of a micro-batch that begins at row `start` of the sweep."""
        place = self._places.get(role)
        if place is None or role not in self._fetched:
            return self._tables[role].gather(indices)
        found = place.memory[start : start + len(indices)]
        return found.clone(memory_format=torch.contiguous_format).view(place.table.dtype)


class _Place(NamedTuple):
    """A table, and where its rows wait: uint8 [T, row_bytes]."""

    table: RowTable
    memory: Tensor


def _places(tables: Mapping[str, Rows], waiting: Iterable[Tensor]) -> dict[str, _Place]:
    """For each table on disk, in the first memory that still has room."""
    left = {role: table for role, table in tables.items() if isinstance(table, RowTable)}
    places = dict[str, _Place]()
    for memory in (each.flatten(1).view(torch.uint8) for each in waiting):
        start = 0
        for role, table in [*left.items()]:
            if start + table.row_bytes <= memory.shape[1]:
                places[role] = _Place(table, memory[:, start : start + table.row_bytes])
                start += left.pop(role).row_bytes
    return places
