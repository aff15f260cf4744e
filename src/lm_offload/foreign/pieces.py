"""Rows of a tensor as they lie in the file, few enough that decoding them takes little memory."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from lm_offload.arch.weights import WeightSpec
from lm_offload.quant.format import TILE_ROWS
from lm_offload.storage.layout import Extent
from lm_offload.storage.row_reader import read_rows
from lm_offload.storage.safetensors_header import TensorEntry
from lm_offload.storage.tensor_source import Files

DECODED_WEIGHTS = 1 << 20  # at once: each of a handful of temporaries takes up to 4 MiB


def rows_at_once(spec: WeightSpec, step: int = TILE_ROWS) -> int:
    """How many rows of `spec` are decoded together, a multiple of `step`."""
    columns = spec.shape[1] if len(spec.shape) == 2 else 1
    return max(DECODED_WEIGHTS // columns // step, 1) * step


def row_ranges(spec: WeightSpec) -> Iterator[slice]:
    """The rows of `spec`, those that are decoded together in one slice."""
    first, stop = spec.rows or (0, spec.shape[0])
    step = rows_at_once(spec)
    for start in range(first, stop, step):
        yield slice(start, min(start + step, stop))


def read_pieces(
    entry: TensorEntry, spec: WeightSpec, files: Files, step: int = TILE_ROWS
) -> Iterator[tuple[slice, Tensor]]:
    """The rows of `spec` out of `entry`, which has as many: their numbers, and what is stored."""
    first, stop = spec.rows or (0, spec.shape[0])
    row_bytes = entry.size_bytes // entry.shape[0]
    shape = (stop - first, *entry.shape[1:])
    offset = entry.offset + first * row_bytes
    extent = Extent(spec.role, entry, offset, (stop - first) * row_bytes, shape)
    for piece in read_rows(extent, files[entry.path], step):
        for rows in torch.split(piece, rows_at_once(spec, step)):
            yield slice(first, first + len(rows)), rows
            first += len(rows)
