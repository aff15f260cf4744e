"""Checkpoints of compressed-tensors (llm-compressor): int4, int8 and fp8.

weight_packed int32 [N, K * bits / 32] has neighbouring columns in one word, the codes shifted to
start at zero; weight int8 or fp8 [N, K] has a byte for each. weight_scale is [N, groups], or [1]
for a whole fp8 matrix; weight_zero_point [N, groups] is packed by rows where the codes are packed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from lm_offload.arch.fields import Fields
from lm_offload.arch.weights import WeightSpec
from lm_offload.errors import CheckpointError
from lm_offload.foreign.column_order import find_order, read_order
from lm_offload.foreign.compressed_schemes import Schemes, parse_schemes
from lm_offload.foreign.converted import ConvertedTensor
from lm_offload.foreign.float8 import DTYPE as FLOAT8
from lm_offload.foreign.float8 import float8_matrix
from lm_offload.foreign.grouped import (
    WORD_BITS,
    GroupedRows,
    Grouping,
    grouped_matrix,
    grouping_of,
    unpack_words,
)
from lm_offload.foreign.model import Convert
from lm_offload.foreign.parts import SCALE_DTYPES, WHY, Parts, find_parts
from lm_offload.foreign.pieces import read_pieces
from lm_offload.quant.format import Format
from lm_offload.storage.checkpoint import Checkpoint
from lm_offload.storage.row_reader import read_tensor
from lm_offload.storage.safetensors_header import TensorEntry
from lm_offload.storage.tensor_source import Files

_Scheme = TypeVar("_Scheme")

PACKED, PLAIN, SCALE, ZERO = "weight_packed", "weight", "weight_scale", "weight_zero_point"
SHAPE = "weight_shape"  # of the matrix that is packed


def read_compressed(fields: Fields, checkpoint: Checkpoint) -> Convert:
    """How to convert the tensors of a checkpoint with this `quantization_config`."""
    return partial(_convert, checkpoint, parse_schemes(fields))


def _convert(
    checkpoint: Checkpoint, schemes: Schemes, spec: WeightSpec, wanted: Format | None
) -> ConvertedTensor | None:
    if parts := find_parts(checkpoint, spec, PACKED):
        return _integers(parts, spec, schemes.integers, PACKED)
    parts = find_parts(checkpoint, spec, PLAIN)
    codes = parts.find(PLAIN) if parts else None
    if parts and codes and codes.dtype == "I8":
        return _integers(parts, spec, [s for s in schemes.integers if s.bits == 8], PLAIN)
    if parts and codes and codes.dtype == FLOAT8:
        return _floats(parts, spec, schemes.blocks)
    return None


def _integers(
    parts: Parts, spec: WeightSpec, schemes: Sequence[Grouping], suffix: str
) -> ConvertedTensor:
    grouping = grouping_of(_chosen(parts, spec, schemes), spec)
    rows, columns = spec.shape
    groups = columns // grouping.group_size
    packed_columns = -(-columns * grouping.bits // WORD_BITS)
    if suffix == PACKED:
        codes = parts.need(PACKED, ("I32",), (rows, packed_columns))
    else:
        codes = parts.need(PLAIN, ("I8",), (rows, columns))
    scales = parts.need(SCALE, SCALE_DTYPES, (rows, groups))
    zeros = None if grouping.symmetric else _zero_points(parts, rows, groups, grouping.bits)
    order = find_order(parts, "weight_g_idx", columns, grouping)
    shape = parts.find(SHAPE)
    entries = [entry for entry in (codes, scales, zeros, order, shape) if entry]
    read = partial(_read, spec, grouping, codes, scales, zeros, order, shape)
    return grouped_matrix(spec, grouping, "compressed", entries, scales, read)


def _chosen(parts: Parts, spec: WeightSpec, schemes: Sequence[Grouping]) -> Grouping:
    """The scheme that gives as many scales as there are; the first one if none does."""
    columns = spec.shape[1]
    held = parts.find(SCALE)
    groups = held.shape[-1] if held and held.shape else 0
    sizes = {scheme: scheme.group_size if scheme.group_size > 0 else columns for scheme in schemes}
    fitting = [scheme for scheme, size in sizes.items() if groups * size == columns]
    return _first(parts, fitting or schemes)


def _first(parts: Parts, schemes: Sequence[_Scheme]) -> _Scheme:
    if not schemes:
        raise CheckpointError(
            f"Tensor {parts.module}weight is quantized in a way that {WHY} does not name; use the "
            "config.json that belongs to these weights."
        )
    return schemes[0]


def _zero_points(parts: Parts, rows: int, groups: int, bits: int) -> TensorEntry:
    found = parts.find(ZERO)
    if found and found.dtype == "I32":
        return parts.need(ZERO, ("I32",), (-(-rows * bits // WORD_BITS), groups))
    return parts.need(ZERO, ("I8",), (rows, groups))


def _floats(parts: Parts, spec: WeightSpec, blocks: Sequence[tuple[int, int]]) -> ConvertedTensor:
    rows, columns = spec.shape
    held = parts.find(SCALE)
    shape = held.shape if held else None
    fitting = [block for block in blocks if _scale_shape(spec, block) == shape]
    block = _first(parts, fitting or blocks)
    scales = parts.need(SCALE, SCALE_DTYPES, _scale_shape(spec, block))
    return float8_matrix(spec, parts, scales, (block[0] or rows, block[1] or columns))


def _scale_shape(spec: WeightSpec, block: tuple[int, int]) -> tuple[int, ...]:
    rows, columns = spec.shape
    if block == (0, 0):
        return (1,)
    return (-(-rows // block[0]), -(-columns // block[1]) if block[1] else 1)


def _read(
    spec: WeightSpec,
    grouping: Grouping,
    codes: TensorEntry,
    scales: TensorEntry,
    zeros: TensorEntry | None,
    order: TensorEntry | None,
    shape: TensorEntry | None,
    files: Files,
) -> Iterator[GroupedRows]:
    if shape:
        _check_shape(shape, spec, files)
    all_scales = read_tensor(scales, files[scales.path])
    all_zeros = _read_zeros(zeros, spec.shape[0], grouping, files) if zeros else None
    group_of = read_order(order, grouping, files)
    for rows, stored in read_pieces(codes, spec, files):
        found = _codes(stored, grouping)[:, : spec.shape[1]]
        chosen = None if all_zeros is None else all_zeros[rows]
        yield GroupedRows(found, all_scales[rows], chosen, group_of)


def _check_shape(entry: TensorEntry, spec: WeightSpec, files: Files) -> None:
    told = read_tensor(entry, files[entry.path]).tolist()
    if told != list(spec.shape):
        raise CheckpointError(
            f"Tensor {entry.name} holds {told}, but config.json asks for {list(spec.shape)}; use "
            "the config.json that belongs to these weights."
        )


def _read_zeros(entry: TensorEntry, rows: int, grouping: Grouping, files: Files) -> Tensor:
    """Zeros [N, groups]; words hold those of neighbouring rows."""
    stored = read_tensor(entry, files[entry.path])
    if stored.dtype == torch.int32:
        return _codes(stored.T, grouping).T[:rows]
    return _codes(stored, grouping)


def _codes(stored: Tensor, grouping: Grouping) -> Tensor:
    """Rows of words, or of signed bytes, as codes from zero on."""
    if stored.dtype == torch.int32:
        return unpack_words(stored, grouping.bits).flatten(1)
    return (stored.short() + grouping.middle).to(torch.uint8)
