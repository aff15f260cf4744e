"""Where the tensors of each unit lie in a quantized folder's one data file.

::

    weights.bin   | unit 0: tensor | tensor | ... pad | unit 1 ...
                  ^ page           ^ 64 bytes         ^ page

A unit is one block of pages, so that streaming it is one run; a matrix in it lies as the kernels
read it (quant/packing.py). Everything follows from shapes and formats: no weight is read.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lm_offload.quant.columns import check_columns
from lm_offload.quant.format import FLOAT_BYTES, Format
from lm_offload.storage.tensor_source import TensorSource
from lm_offload.units import align_up

TENSOR_ALIGNMENT = 64  # a cache line


@dataclass(frozen=True)
class PackedTensor:
    """One tensor in the block of its unit."""

    name: str  # in the checkpoint
    role: str
    format: Format  # its own dtype for all but quantized matrices
    shape: tuple[int, ...]
    offset: int  # from the start of the unit

    @property
    def size_bytes(self) -> int:
        """Bytes without what is padded behind them."""
        if self.format.is_packed:
            rows, columns = self.shape
            return self.format.matrix_bytes(rows, columns)
        return math.prod(self.shape) * FLOAT_BYTES[self.format.name]


@dataclass(frozen=True)
class PackedUnit:
    """The block of one unit; a unit that loads nothing has no bytes."""

    name: str
    offset: int  # from the start of the file
    size_bytes: int  # a multiple of the page size
    tensors: tuple[PackedTensor, ...]


@dataclass(frozen=True)
class UnitSource:
    """What goes into one block."""

    name: str
    tensors: Sequence[TensorSource]

    @property
    def size_bytes(self) -> int:
        """Bytes to read."""
        return sum(tensor.size_bytes for tensor in self.tensors)


def place_units(sources: Iterable[UnitSource]) -> tuple[PackedUnit, ...]:
    """One block behind the other; raises ConfigError for a matrix that cannot be cut in groups."""
    units: list[PackedUnit] = []
    offset = 0
    for source in sources:
        units.append(_place_unit(source, offset))
        offset += units[-1].size_bytes
    return tuple(units)


def _place_unit(source: UnitSource, unit_offset: int) -> PackedUnit:
    tensors: list[PackedTensor] = []
    offset = 0
    for found in source.tensors:
        if found.format.is_packed:
            check_columns(found.format, found.shape[1], f"Tensor {found.name}")
        tensors.append(PackedTensor(found.name, found.role, found.format, found.shape, offset))
        offset = align_up(offset + tensors[-1].size_bytes, TENSOR_ALIGNMENT)
    return PackedUnit(source.name, unit_offset, align_up(offset), tuple(tensors))
