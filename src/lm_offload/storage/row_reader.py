"""The rows of a tensor in its file, a bounded number at a time, past the page cache."""

from __future__ import annotations

import itertools
import mmap
from collections.abc import Iterator

import torch
from torch import Tensor

from lm_offload.storage.direct_file import DirectFile
from lm_offload.storage.layout import Extent
from lm_offload.storage.safetensors_header import DTYPE_NAMES, TensorEntry
from lm_offload.units import MIB, PAGE_BYTES, align_down, align_up

PIECE_BYTES = 4 * MIB
TORCH_NAMES = {  # by dtype in the file
    **DTYPE_NAMES,
    "I64": "int64",
    "I32": "int32",
    "I8": "int8",
    "U8": "uint8",
    "F8_E4M3": "float8_e4m3fn",
}


def read_rows(extent: Extent, file: DirectFile, row_multiple: int) -> Iterator[Tensor]:
    """Consecutive rows in their own dtype, `row_multiple` times n of them but for the last.

    A piece is valid while the next one is read, until the one behind that is asked for.
    """
    rows, row_bytes = extent.shape[0], extent.size_bytes // extent.shape[0]
    step = max(PIECE_BYTES // row_bytes // row_multiple, 1) * row_multiple
    room_bytes = align_up(min(step, rows) * row_bytes) + PAGE_BYTES
    buffers = itertools.cycle([mmap.mmap(-1, room_bytes) for _ in range(min(2, -(-rows // step)))])
    for first, buffer in zip(range(0, rows, step), buffers, strict=False):
        shape = (min(step, rows - first), *extent.shape[1:])
        yield _read(extent.entry, file, buffer, extent.offset + first * row_bytes, shape)


def read_tensor(entry: TensorEntry, file: DirectFile) -> Tensor:
    """A whole tensor."""
    buffer = mmap.mmap(-1, align_up(entry.size_bytes) + PAGE_BYTES)
    return _read(entry, file, buffer, entry.offset, entry.shape)


def _read(
    entry: TensorEntry, file: DirectFile, buffer: mmap.mmap, offset: int, shape: tuple[int, ...]
) -> Tensor:
    dtype: torch.dtype = getattr(torch, TORCH_NAMES[entry.dtype])
    count = torch.Size(shape).numel()
    start = align_down(offset)
    stop = align_up(offset + count * dtype.itemsize)
    file.read_into(memoryview(buffer)[: stop - start], start)
    return torch.frombuffer(buffer, dtype=dtype, count=count, offset=offset - start).view(shape)
