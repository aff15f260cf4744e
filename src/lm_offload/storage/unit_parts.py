"""Parts of a unit that are read by themselves, out of the same bytes of the same files.

Nothing is stored again: a part's tensors, or some rows of one, lie where those of its unit do, and
its runs are the pages around them::

    unit     | norm  gate  up  down |        one run
    parts    | norm  gate  up|              the page between them is read with both
                            |down  |
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple

from lm_offload.arch.weights import Unit, WeightSpec
from lm_offload.quant.format import format_of_dtype
from lm_offload.storage.layout import MERGE_GAP_BYTES, Place, Run, UnitLayout
from lm_offload.units import align_down, align_up


class _Piece(NamedTuple):
    """A tensor of a part, and where in its unit's run it lies."""

    role: str
    place: Place  # its offset counts from the start of the unit
    run: Run
    size_bytes: int

    @property
    def stop(self) -> int:
        """One past its last byte in the unit."""
        return self.place.offset + self.size_bytes


def part_layout(layout: UnitLayout, unit: Unit, part: Unit) -> UnitLayout:
    """Where a part lies whose weights are some of those of `unit`, or rows of them."""
    whole = {spec.role: spec for spec in unit.loaded}
    pieces = [_piece(layout, whole[spec.role], spec) for spec in part.loaded]
    runs: list[Run] = []
    places: dict[str, Place] = {}
    memory_offset = 0
    for group in _neighbours(pieces):
        run, start = group[0].run, align_down(group[0].place.offset)
        size_bytes = min(align_up(group[-1].stop), run.memory_offset + run.size_bytes) - start
        file_offset = run.file_offset + start - run.memory_offset
        runs.append(Run(run.path, file_offset, size_bytes, memory_offset))
        for piece in group:
            offset = memory_offset + piece.place.offset - start
            places[piece.role] = replace(piece.place, offset=offset)
        memory_offset += size_bytes
    weight_bytes = sum(piece.size_bytes for piece in pieces)
    return UnitLayout(part.name, memory_offset, weight_bytes, tuple(runs), places)


def _piece(layout: UnitLayout, whole: WeightSpec, spec: WeightSpec) -> _Piece:
    place = layout.places[spec.role]
    run = next(run for run in reversed(layout.runs) if run.memory_offset <= place.offset)
    if whole.rows != spec.rows:
        place = _with_rows(place, (whole.rows or (0, 0))[0], spec)
    return _Piece(spec.role, place, run, _size_bytes(place))


def _with_rows(place: Place, first: int, spec: WeightSpec) -> Place:
    """Of a tensor whose rows begin with `first`; those of a quantized one lie in whole tiles."""
    assert spec.rows is not None
    before = replace(place, shape=(spec.rows[0] - first, *place.shape[1:]))
    return replace(place, offset=place.offset + _size_bytes(before), shape=spec.view_shape)


def _size_bytes(place: Place) -> int:
    format = place.format or format_of_dtype(place.dtype_name)
    rows = place.shape[0] if len(place.shape) == 2 else 1
    return format.matrix_bytes(rows, place.shape[-1])


def _neighbours(pieces: Iterable[_Piece]) -> Iterator[list[_Piece]]:
    """Those that are read together, the first ones first."""
    group: list[_Piece] = []
    for piece in sorted(pieces, key=lambda piece: piece.place.offset):
        if group and (
            piece.run != group[0].run or piece.place.offset - group[-1].stop > MERGE_GAP_BYTES
        ):
            yield group
            group = []
        group.append(piece)
    if group:
        yield group
