"""The tensors of units where they lie in a tier: in homes of their own, or in a ring for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from lm_offload.quant.packed import PackedWeight
from lm_offload.storage.arena import Memory
from lm_offload.storage.layout import Place, UnitLayout

Views = Mapping[str, Any]  # role to Tensor, or to PackedWeight where a matrix is quantized


class UnitViews:
    """Gives the weights of a unit by role; making a view takes time, so each is made once."""

    def __init__(self, layouts: Sequence[UnitLayout], ring: Memory) -> None:
        self._layouts = layouts
        self._ring = ring
        self._resident: dict[int, Views] = {}
        self._staged: dict[tuple[int, int], Views] = {}

    def settle(self, unit: int, home: Memory) -> None:
        """`unit` lives in `home` from now on."""
        self._resident[unit] = self._views(unit, home, 0)

    def leave(self, unit: int) -> None:
        """`unit` lives nowhere from now on."""
        del self._resident[unit]

    def acquire(self, unit: int, ring_offset: int) -> Views:
        """The weights of `unit` where it lives, or at `ring_offset` of the ring."""
        if ring_offset < 0:
            return self._resident[unit]
        key = (unit, ring_offset)
        if key not in self._staged:
            self._staged[key] = self._views(unit, self._ring, ring_offset)
        return self._staged[key]

    def _views(self, unit: int, memory: Memory, offset: int) -> Views:
        places = self._layouts[unit].places
        return {role: _view(memory, offset, place) for role, place in places.items()}


def _view(memory: Memory, offset: int, place: Place) -> Tensor | PackedWeight:
    """The tensor at `place` of the unit at `offset`; a quantized one stays packed."""
    if place.format is None:
        return memory.view(offset + place.offset, place.dtype, place.shape)
    rows, columns = place.shape
    size_bytes = place.format.matrix_bytes(rows, columns)
    data = memory.view(offset + place.offset, place.dtype, (size_bytes,))
    return PackedWeight(data, place.format, (rows, columns))
