"""Reads the data file of a quantized folder: places of its units, and whether it is damaged."""

from __future__ import annotations

import mmap
import zlib
from collections.abc import Mapping
from pathlib import Path

from lm_offload.storage.direct_file import DirectFile
from lm_offload.storage.layout import Place, Run, UnitLayout
from lm_offload.storage.packed_index import PackedPlan
from lm_offload.storage.packed_layout import PackedTensor, PackedUnit
from lm_offload.storage.safetensors_header import DTYPE_NAMES, TensorEntry
from lm_offload.storage.tensor_source import FLOAT_FORMATS
from lm_offload.units import MIB

PIECE_BYTES = 4 * MIB
_DTYPES = {format: name for name, format in FLOAT_FORMATS.items()}


def unit_layout(unit: PackedUnit, data: Path) -> UnitLayout:
    """One run, and the places of the tensors in it."""
    runs = (Run(data, unit.offset, unit.size_bytes, 0),) if unit.size_bytes else ()
    places = {tensor.role: _place(tensor) for tensor in unit.tensors}
    weight_bytes = sum(tensor.size_bytes for tensor in unit.tensors)
    return UnitLayout(unit.name, unit.size_bytes, weight_bytes, runs, places)


def float_entries(unit: PackedUnit, data: Path) -> dict[str, TensorEntry]:
    """The tensors of a unit that is not quantized, as those of a weight file."""
    return {
        tensor.name: TensorEntry(
            tensor.name,
            data,
            _DTYPES[tensor.format],
            tensor.shape,
            unit.offset + tensor.offset,
            tensor.size_bytes,
        )
        for tensor in unit.tensors
    }


def intact_blocks(data: Path, plan: PackedPlan, checksums: Mapping[str, int]) -> dict[str, int]:
    """Those of `checksums` that the blocks of the data file still have; reads the blocks."""
    if not data.exists() or data.stat().st_size != plan.size_bytes:
        return {}
    file = DirectFile(data)
    try:
        return {
            unit.name: checksums[unit.name]
            for unit in plan.units
            if unit.name in checksums and _checksum(file, unit) == checksums[unit.name]
        }
    finally:
        file.close()


def _checksum(file: DirectFile, unit: PackedUnit) -> int:
    checksum = 0
    buffer = memoryview(mmap.mmap(-1, PIECE_BYTES))
    for start in range(0, unit.size_bytes, PIECE_BYTES):
        piece = buffer[: min(PIECE_BYTES, unit.size_bytes - start)]
        file.read_into(piece, unit.offset + start)
        checksum = zlib.crc32(piece, checksum)
    return checksum


def _place(tensor: PackedTensor) -> Place:
    if tensor.format.is_packed:
        return Place(tensor.offset, "uint8", tensor.shape, tensor.format)
    return Place(tensor.offset, DTYPE_NAMES[_DTYPES[tensor.format]], tensor.shape)
