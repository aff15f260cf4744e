"""Tensors of recurrent layers in a GGUF file, whose rows or columns are in another order.

Heads of values that share a key are neighbours in Hugging Face's tensors. llama.cpp has them in
turns (Qwen3.5), and rates apart from decays where Qwen3-Next has them side by side::

    Hugging Face   k0v0 k0v1 k1v0 k1v1        GGUF   k0v0 k1v0 k0v1 k1v1
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from lm_offload.arch.recurrent import DeltaShape
from lm_offload.arch.weights import WeightSpec
from lm_offload.foreign.converted import ConvertedTensor, Loss
from lm_offload.foreign.gguf_blocks import BLOCK_FORMATS, INT8, dequantize_rows
from lm_offload.foreign.gguf_tensor import gguf_tensor
from lm_offload.foreign.pieces import row_ranges
from lm_offload.quant.format import Format
from lm_offload.quant.packing import Codes
from lm_offload.storage.row_reader import read_tensor
from lm_offload.storage.safetensors_header import TensorEntry
from lm_offload.storage.tensor_source import FLOAT_FORMATS, Files, Piece

GROUP_COLUMNS = 32  # of the formats that codes are kept in


def head_order(shape: DeltaShape, size: int) -> Tensor:
    """Which of GGUF's channels each of Hugging Face's is, of heads of values with `size` each."""
    turns = torch.arange(shape.heads * size).view(-1, shape.key_heads, size)
    return turns.transpose(0, 1).flatten()


def mixed_order(shape: DeltaShape) -> Tensor:
    """The same of queries, keys and values together."""
    keys = 2 * shape.key_size
    return torch.cat([torch.arange(keys), keys + head_order(shape, shape.value_dim)])


def in_row_order(
    entry: TensorEntry, spec: WeightSpec, order: Tensor, wanted: Format | None
) -> ConvertedTensor:
    """The rows of `entry` that `order` names; `spec` has as many of them."""
    whole = replace(spec, shape=(entry.shape[0], *spec.shape[1:]))
    plain = gguf_tensor(entry, whole, None, wanted)
    decode = partial(_ordered, entry, spec, order, _decoder(entry.dtype))
    return replace(plain, shape=spec.shape, decode=decode)


def in_column_order(
    entry: TensorEntry, spec: WeightSpec, shape: DeltaShape, wanted: Format | None
) -> ConvertedTensor:
    """A matrix whose columns are heads of values; codes are kept where groups are within heads."""
    plain = gguf_tensor(entry, spec, None, wanted)
    order = head_order(shape, shape.value_dim)
    if entry.dtype in FLOAT_FORMATS or shape.value_dim % GROUP_COLUMNS == 0:
        return replace(plain, decode=lambda files: _columns(plain.decode(files), order))
    rows = replace(entry, dtype="U8", shape=(spec.shape[0], entry.size_bytes // spec.shape[0]))
    floats = partial(dequantize_rows, dtype=entry.dtype)
    straight = torch.arange(spec.shape[0])
    decode = partial(_ordered, rows, spec, straight, lambda data: floats(data)[:, order])
    return replace(plain, format=INT8, loss=Loss.WEIGHTS, decode=decode)


def _decoder(dtype: str) -> Callable[[Tensor], Piece]:
    if dtype in FLOAT_FORMATS:
        return lambda rows: rows
    return BLOCK_FORMATS[dtype].keep or partial(dequantize_rows, dtype=dtype)


def _ordered(
    entry: TensorEntry,
    spec: WeightSpec,
    order: Tensor,
    decode: Callable[[Tensor], Piece],
    files: Files,
) -> Iterator[Piece]:
    """A few rows at a time, neighbours of the file in one read."""
    if entry.dtype not in FLOAT_FORMATS:
        entry = replace(
            entry, dtype="U8", shape=(entry.shape[0], entry.size_bytes // entry.shape[0])
        )
    for rows in row_ranges(spec):
        wanted = order[rows]
        starts = torch.nonzero(wanted.diff() != 1).flatten() + 1
        runs = torch.tensor_split(wanted, starts)
        yield decode(torch.cat([_read(entry, int(run[0]), len(run), files) for run in runs]))


def _read(entry: TensorEntry, first: int, count: int, files: Files) -> Tensor:
    row_bytes = entry.size_bytes // entry.shape[0]
    part = replace(
        entry,
        shape=(count, *entry.shape[1:]),
        offset=entry.offset + first * row_bytes,
        size_bytes=count * row_bytes,
    )
    return read_tensor(part, files[entry.path])


def _columns(pieces: Iterator[Piece], order: Tensor) -> Iterator[Piece]:
    """With scales and minimums of the groups that the columns lie in."""
    groups = order[::GROUP_COLUMNS] // GROUP_COLUMNS
    for piece in pieces:
        if isinstance(piece, Codes):
            minimums = None if piece.minimums is None else piece.minimums[:, groups].contiguous()
            scales = piece.scales[:, groups].contiguous()
            yield Codes(piece.values[:, order].contiguous(), scales, minimums)
        else:
            yield piece[:, order].contiguous()
