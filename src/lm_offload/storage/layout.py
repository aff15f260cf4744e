"""How the tensors of a unit lie in its staging memory: as they lie in the file.

A direct read moves whole pages, so a unit's memory is a list of runs, each the page-aligned
superset of tensors that are neighbours in one file. A tensor is then a view into its run and
nothing is copied::

    file   ....|  a a a a|a a a b b|b b b . .|....      a and b belong to the unit
    run        ^ 4 KiB aligned                ^
    view a     offset in run = offset in file - start of run
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lm_offload.arch.weights import Unit, WeightSpec, name_candidates
from lm_offload.errors import CheckpointError
from lm_offload.quant.format import Format
from lm_offload.storage.checkpoint import Checkpoint
from lm_offload.storage.safetensors_header import DTYPE_NAMES, ITEM_BYTES, TensorEntry
from lm_offload.units import KIB, align_down, align_up

if TYPE_CHECKING:
    import torch

MERGE_GAP_BYTES = 64 * KIB  # reading a gap of this size costs less than another request


@dataclass(frozen=True)
class Run:
    """Consecutive pages of one file and where they go in the unit's memory."""

    path: Path
    file_offset: int
    size_bytes: int
    memory_offset: int


@dataclass(frozen=True)
class Place:
    """A tensor inside a unit's memory; a quantized one has a format, and bytes as its dtype."""

    offset: int
    dtype_name: str  # as torch has it
    shape: tuple[int, ...]
    format: Format | None = None

    @property
    def dtype(self) -> torch.dtype:
        """Of the view; a plan needs the name alone, and no torch."""
        import torch

        found: torch.dtype = getattr(torch, self.dtype_name)
        return found


@dataclass(frozen=True)
class UnitLayout:
    """What is read for a unit, and the tensors found in it by role."""

    name: str
    size_bytes: int  # of its memory, a multiple of the page size
    weight_bytes: int  # of its tensors alone
    runs: tuple[Run, ...]
    places: dict[str, Place] = field(hash=False)


@dataclass(frozen=True)
class Extent:
    """The bytes of one weight in its file: the whole tensor or a range of its rows."""

    role: str
    entry: TensorEntry
    offset: int
    size_bytes: int
    shape: tuple[int, ...]


def find_extent(checkpoint: Checkpoint, spec: WeightSpec) -> Extent:
    """Where `spec` lies; raises CheckpointError if it is missing, misshapen or of a wrong dtype."""
    names = [name for name in name_candidates(spec.name) if name in checkpoint.tensors]
    if not names:
        raise CheckpointError(
            f"Tensor {spec.name} is missing from {checkpoint.folder.name}; "
            "the checkpoint is incomplete or of another architecture than its config.json says."
        )
    entry = checkpoint.tensors[names[0]]
    if entry.shape != spec.shape:
        raise CheckpointError(
            f"Tensor {spec.name} has shape {list(entry.shape)}, config.json asks for "
            f"{list(spec.shape)}; use the config.json that belongs to these weights."
        )
    if entry.dtype not in DTYPE_NAMES:
        raise CheckpointError(
            f"Tensor {spec.name} has dtype {entry.dtype}; allowed are {', '.join(DTYPE_NAMES)}."
        )
    first = spec.rows[0] if spec.rows else 0
    row_bytes = entry.size_bytes // entry.shape[0]
    size_bytes = spec.elements * ITEM_BYTES[entry.dtype]
    return Extent(spec.role, entry, entry.offset + first * row_bytes, size_bytes, spec.view_shape)


def layout_unit(checkpoint: Checkpoint, unit: Unit) -> UnitLayout:
    """The runs to read for what `unit` loads before it computes."""
    return layout_weights(checkpoint, unit.name, unit.loaded)


def layout_weights(checkpoint: Checkpoint, name: str, specs: Iterable[WeightSpec]) -> UnitLayout:
    """The runs to read for `specs`, and the views in them."""
    extents = [find_extent(checkpoint, spec) for spec in specs]
    runs: list[Run] = []
    places: dict[str, Place] = {}
    memory_offset = 0
    for group in _merge(extents):
        start = align_down(group[0].offset)
        stop = align_up(max(extent.offset + extent.size_bytes for extent in group))
        runs.append(Run(group[0].entry.path, start, stop - start, memory_offset))
        for extent in group:
            dtype = DTYPE_NAMES[extent.entry.dtype]
            places[extent.role] = Place(memory_offset + extent.offset - start, dtype, extent.shape)
        memory_offset += stop - start
    weight_bytes = sum(extent.size_bytes for extent in extents)
    return UnitLayout(name, memory_offset, weight_bytes, tuple(runs), places)


def with_int8_activations(layout: UnitLayout) -> UnitLayout:
    """The same places, of which quantized ones are multiplied with activations of 8 bits."""
    formats = {role: place.format for role, place in layout.places.items() if place.format}
    rounded = {
        role: replace(layout.places[role], format=replace(format, int8_activations=True))
        for role, format in formats.items()
    }
    return replace(layout, places={**layout.places, **rounded})


def _merge(extents: Iterable[Extent]) -> Iterable[list[Extent]]:
    group: list[Extent] = []
    for extent in sorted(extents, key=lambda extent: (extent.entry.path, extent.offset)):
        if group and not _neighbours(group[-1], extent):
            yield group
            group = []
        group.append(extent)
    if group:
        yield group


def _neighbours(before: Extent, after: Extent) -> bool:
    gap_bytes = after.offset - (before.offset + before.size_bytes)
    return before.entry.path == after.entry.path and gap_bytes <= MERGE_GAP_BYTES
