"""One tensor of a GGUF file on its way into a quantized folder."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from lm_offload.arch.weights import WeightSpec
from lm_offload.errors import CheckpointError, UnsupportedModelError
from lm_offload.foreign.converted import ConvertedTensor, Loss
from lm_offload.foreign.gguf_blocks import BLOCK_FORMATS, dequantize_rows
from lm_offload.foreign.pieces import read_pieces
from lm_offload.foreign.row_order import pairs_apart
from lm_offload.quant.format import TILE_ROWS, Format
from lm_offload.storage.row_reader import read_tensor
from lm_offload.storage.safetensors_header import TensorEntry
from lm_offload.storage.tensor_source import FLOAT_FORMATS, Files, Piece

TABLE_FORMAT, TABLE_DTYPE = Format("fp16"), torch.float16  # of a table that is quantized in a file


def gguf_tensor(
    entry: TensorEntry, spec: WeightSpec, head_dim: int | None, wanted: Format | None
) -> ConvertedTensor:
    """Codes are kept where a format has a counterpart here.

    `head_dim` is given where the rows of heads are in GGUF's order. `wanted` is the format of
    matrices that are floats in the file, None for the same floats. Raises CheckpointError for a
    wrong shape, UnsupportedModelError for a format that cannot be read.
    """
    _check(entry, spec)
    format, loss, decode = _decoding(entry, spec, wanted)
    return ConvertedTensor(
        spec.name,
        spec.role,
        spec.view_shape,
        format,
        origin=entry.dtype,
        entries=[entry],
        rows_frac=spec.view_shape[0] / spec.shape[0],
        loss=loss,
        decode=partial(_pieces, entry, spec, head_dim, decode),
    )


def own_matrix(spec: WeightSpec) -> WeightSpec:
    """What files have in place of the rows of two matrices in one tensor: one of them alone."""
    name = spec.name.replace("input_linear", spec.role)
    return spec if name == spec.name else replace(spec, name=name, shape=spec.view_shape, rows=None)


def gate_of_both(name: str) -> str:
    """What rates and decays of a recurrent layer are called where they are one tensor."""
    return name.replace("in_proj_b.", "in_proj_ba.").replace("in_proj_a.", "in_proj_ba.")


def in_shape(entry: TensorEntry, spec: WeightSpec) -> TensorEntry:
    """A list of floats as it is asked for: ggml has no dimensions of one, or others of its own."""
    is_list = len(spec.shape) == 1 or 1 in spec.shape
    is_same = math.prod(entry.shape) == math.prod(spec.shape)
    if entry.shape == spec.shape or entry.dtype not in FLOAT_FORMATS or not (is_list and is_same):
        return entry
    return replace(entry, shape=spec.shape)


def gguf_norm(entry: TensorEntry, spec: WeightSpec) -> ConvertedTensor:
    """The weights of a norm that the converter added one to, as in Gemma's files.

    Taking it away again in float32 gives what the model had. Raises CheckpointError for a wrong
    shape, UnsupportedModelError for what is not float32.
    """
    _check(entry, spec)
    if entry.dtype != "F32":
        raise UnsupportedModelError(
            f"Tensor {entry.name} of {entry.path.name} is {entry.dtype}, norms are read as F32; "
            "take another file of this model."
        )

    def decode(files: Files) -> Iterator[Tensor]:
        yield read_tensor(entry, files[entry.path]) - 1

    format, loss = FLOAT_FORMATS[entry.dtype], Loss.NOTHING
    return ConvertedTensor(
        spec.name, spec.role, spec.shape, format, entry.dtype, loss, [entry], decode
    )


def _decoding(
    entry: TensorEntry, spec: WeightSpec, wanted: Format | None
) -> tuple[Format, Loss, Callable[[Tensor], Piece]]:
    """The format that a tensor is stored in, what it loses, and how rows of it are decoded."""
    if entry.dtype in FLOAT_FORMATS:
        format = wanted if wanted and spec.takes(wanted) else FLOAT_FORMATS[entry.dtype]
        return format, Loss.CHOSEN if format.is_packed else Loss.NOTHING, _as_they_are
    decode = partial(dequantize_rows, dtype=entry.dtype)
    if spec.is_row_table:
        return TABLE_FORMAT, Loss.ROWS, lambda rows: decode(rows).to(TABLE_DTYPE)
    block = BLOCK_FORMATS[entry.dtype]
    return block.format, block.loss, block.keep or decode


def _check(entry: TensorEntry, spec: WeightSpec) -> None:
    if entry.shape != spec.shape:
        raise CheckpointError(
            f"Tensor {entry.name} of {entry.path.name} has shape {list(entry.shape)}, its metadata "
            f"asks for {list(spec.shape)}; download it again."
        )
    matrix_formats = BLOCK_FORMATS if len(spec.shape) == 2 else ()
    if entry.dtype not in (*FLOAT_FORMATS, *matrix_formats):
        raise UnsupportedModelError(
            f"Tensor {entry.name} of {entry.path.name} is {entry.dtype}, which is not read here; "
            f"matrices may be {', '.join((*FLOAT_FORMATS, *BLOCK_FORMATS))}: take another file of "
            "this model."
        )


def _pieces(
    entry: TensorEntry,
    spec: WeightSpec,
    head_dim: int | None,
    decode: Callable[[Tensor], Piece],
    files: Files,
) -> Iterator[Piece]:
    """Rows of blocks are read as plain bytes, whole heads at once where their order changes."""
    if entry.dtype not in FLOAT_FORMATS:
        entry = replace(entry, dtype="U8", shape=(spec.shape[0], entry.size_bytes // spec.shape[0]))
    step = math.lcm(TILE_ROWS, head_dim or 1)
    for _, rows in read_pieces(entry, spec, files, step):
        yield decode(pairs_apart(rows, head_dim) if head_dim else rows)


def _as_they_are(rows: Tensor) -> Tensor:
    return rows
