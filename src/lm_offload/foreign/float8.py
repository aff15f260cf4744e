"""FP8 (e4m3) weights with a scale for blocks of rows and columns, as DeepSeek and Qwen 3 have, or
with one for a whole matrix (`weight_block_size: null`).

Codes and scales are kept where blocks can be cut into groups of columns that fp8 has here, a scale
repeated for each row and group; else the weights are quantized again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from lm_offload.arch.fields import Fields
from lm_offload.arch.weights import WeightSpec
from lm_offload.errors import CheckpointError
from lm_offload.foreign.converted import ConvertedTensor, Loss
from lm_offload.foreign.grouped import finer_format
from lm_offload.foreign.model import Convert
from lm_offload.foreign.parts import SCALE_DTYPES, Parts, find_parts
from lm_offload.foreign.pieces import read_pieces
from lm_offload.quant.columns import COLUMN_STEP
from lm_offload.quant.format import GROUP_SIZES, Format
from lm_offload.quant.packing import Codes
from lm_offload.storage.checkpoint import Checkpoint
from lm_offload.storage.row_reader import read_tensor
from lm_offload.storage.safetensors_header import TensorEntry
from lm_offload.storage.tensor_source import Files, Piece

DTYPE = "F8_E4M3"
SCALE = "weight_scale_inv"


def read_float8(fields: Fields, checkpoint: Checkpoint) -> Convert:
    """How to convert the tensors of a checkpoint with this `quantization_config`."""
    fields.must_be("fmt", "e4m3", "float8_e4m3fn")
    fields.must_be("scale_fmt", "float")
    size = fields.get("weight_block_size")
    if size is None and "weight_block_size" in fields.raw:
        return partial(_convert_whole, checkpoint)
    if not (isinstance(size, list) and len(size) == 2 and all(map(_is_size, size))):
        raise fields.wrong("weight_block_size", "a list of two positive numbers")
    return partial(_convert, checkpoint, (size[0], size[1]))


def _is_size(value: object) -> bool:
    return type(value) is int and value > 0


def _convert(
    checkpoint: Checkpoint, block: tuple[int, int], spec: WeightSpec, wanted: Format | None
) -> ConvertedTensor | None:
    parts = _parts_of_codes(checkpoint, spec)
    if parts is None:
        return None
    blocks = (-(-spec.shape[0] // block[0]), -(-spec.shape[1] // block[1]))
    scales = parts.need(SCALE, SCALE_DTYPES, blocks)
    return float8_matrix(spec, parts, scales, block)


def _convert_whole(
    checkpoint: Checkpoint, spec: WeightSpec, wanted: Format | None
) -> ConvertedTensor | None:
    """The same with one scale for each matrix."""
    parts = _parts_of_codes(checkpoint, spec)
    if parts is None:
        return None
    held, whole = parts.find(SCALE), (spec.shape[0], spec.shape[1])
    shape = (1,) if held is not None and held.shape == (1,) else ()
    return float8_matrix(spec, parts, parts.need(SCALE, SCALE_DTYPES, shape), whole)


def _parts_of_codes(checkpoint: Checkpoint, spec: WeightSpec) -> Parts | None:
    """Those of a matrix that is held in FP8."""
    parts = find_parts(checkpoint, spec, "weight")
    codes = parts.find("weight") if parts else None
    return parts if codes is not None and codes.dtype == DTYPE else None


def float8_matrix(
    spec: WeightSpec, parts: Parts, scales: TensorEntry, block: tuple[int, int]
) -> ConvertedTensor:
    """A matrix whose weights are scale * e4m3, with a scale for each block of rows and columns."""
    codes = parts.need("weight", (DTYPE,), spec.shape)
    kept = kept_format(block[1], spec.shape[1])
    read = partial(_kept_codes, kept.group_size) if kept else _floats
    return ConvertedTensor(
        name=spec.name,
        role=spec.role,
        shape=spec.view_shape,
        format=kept or finer_format(spec.shape[1]),
        origin="fp8",
        loss=Loss.NOTHING if kept else Loss.WEIGHTS,
        entries=[codes, scales],
        decode=partial(_pieces, read, spec, codes, scales, block),
        rows_frac=spec.view_shape[0] / spec.shape[0],
    )


def kept_format(block_columns: int, columns: int) -> Format | None:
    """The format with the same codes and, repeated, the same scales; None if there is none."""
    if block_columns >= columns and columns % COLUMN_STEP == 0:
        return Format("fp8", 0)
    sizes = [size for size in GROUP_SIZES if block_columns % size == 0 and columns % size == 0]
    return Format("fp8", max(sizes)) if sizes else None


def _pieces(
    to_piece: Callable[[Tensor, Tensor, int], Piece],
    spec: WeightSpec,
    codes: TensorEntry,
    scales: TensorEntry,
    block: tuple[int, int],
    files: Files,
) -> Iterator[Piece]:
    by_block = read_tensor(scales, files[scales.path]).float()
    if not bool(torch.isfinite(by_block).all()):
        raise CheckpointError(f"Tensor {scales.name} holds values that are not finite; repair it.")
    by_block = by_block.view(-1, -(-spec.shape[1] // block[1]))
    for rows, values in read_pieces(codes, spec, files):
        block_of_row = torch.arange(rows.start, rows.stop) // block[0]
        yield to_piece(values, by_block[block_of_row], block[1])


def _floats(values: Tensor, scales: Tensor, block_columns: int) -> Tensor:
    return values.float().mul_(scales[:, torch.arange(values.shape[1]) // block_columns])


def _kept_codes(group_size: int, values: Tensor, scales: Tensor, block_columns: int) -> Codes:
    first_columns = torch.arange(0, values.shape[1], group_size or values.shape[1])
    return Codes(values, scales[:, first_columns // block_columns], None)
