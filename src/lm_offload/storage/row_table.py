"""Rows of an embedding table, read one by one: the table itself is never loaded.

A sweep needs one row for each of its tokens, a few kilobytes of a table of hundreds of
megabytes. Rows already in memory (a tied head that is resident) are copied from there.
Rows that are neighbours in the file are read in one request, so that a long prompt becomes
a few large reads and a decode step a few small ones that are all in flight at once.
"""

from __future__ import annotations

import mmap
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from lm_offload.storage.direct_file import DirectFile
from lm_offload.storage.gather_size import GATHER_THREADS, MERGE_GAP_BYTES, PIECE_BYTES
from lm_offload.storage.layout import Extent
from lm_offload.storage.safetensors_header import DTYPE_NAMES
from lm_offload.units import KIB, PAGE_BYTES, align_down, align_up


@dataclass(frozen=True)
class RowRequest:
    """One request: which of the sorted row numbers it covers, and the pages to read."""

    first: int
    last: int
    file_offset: int
    size_bytes: int


class RowTable:
    """One table on disk; `gather` fetches the rows that a sweep needs."""

    def __init__(self, extent: Extent, file: DirectFile, pool: ThreadPoolExecutor) -> None:
        self.num_rows, self.width = extent.shape
        self.dtype: torch.dtype = getattr(torch, DTYPE_NAMES[extent.entry.dtype])
        self._offset = extent.offset
        self._row_bytes = extent.size_bytes // self.num_rows
        self._file = file
        self._pool = pool
        self._local = threading.local()
        self._buffer_bytes = max(PIECE_BYTES, align_up(self._row_bytes) + PAGE_BYTES)

    def gather(self, indices: Tensor) -> Tensor:
        """Rows [T, width] of `indices` [T] int64, in the dtype of the checkpoint."""
        distinct, inverse = torch.unique(indices, return_inverse=True)
        rows = torch.empty(len(distinct), self.width, dtype=self.dtype)
        numbers, out = distinct.tolist(), rows.view(torch.uint8).flatten().numpy().data
        requests = list(self._cut(numbers))
        left = iter(requests)  # the next of a list's iterator is atomic

        def fetch(_: int) -> None:
            for request in left:
                self._fetch(request, numbers, out)

        list(self._pool.map(fetch, range(min(GATHER_THREADS, len(requests)))))
        return rows[inverse]

    def _cut(self, numbers: Sequence[int]) -> Iterator[RowRequest]:
        first = 0
        for last in range(1, len(numbers) + 1):
            if not self._joins(numbers[first], numbers[last - 1 : last + 1]):
                start = align_down(self._offset + numbers[first] * self._row_bytes)
                stop = align_up(self._offset + (numbers[last - 1] + 1) * self._row_bytes)
                yield RowRequest(first, last, start, stop - start)
                first = last

    def _joins(self, first: int, pair: Sequence[int]) -> bool:
        if len(pair) < 2:
            return False
        gap_bytes = (pair[1] - pair[0] - 1) * self._row_bytes
        span_bytes = (pair[1] + 1 - first) * self._row_bytes
        return gap_bytes <= MERGE_GAP_BYTES and span_bytes <= PIECE_BYTES - 8 * KIB

    def _fetch(self, request: RowRequest, numbers: Sequence[int], out: memoryview) -> None:
        """Without torch: its calls are long for threads that wait for one another to make them."""
        read = memoryview(self._buffer())[: request.size_bytes]
        self._file.read_into(read, request.file_offset)
        start, size = self._offset - request.file_offset, self._row_bytes
        for place in range(request.first, request.last):
            at = start + numbers[place] * size
            out[place * size : (place + 1) * size] = read[at : at + size]

    def _buffer(self) -> mmap.mmap:
        """The read buffer of this thread, page-aligned as a direct read demands."""
        buffer: mmap.mmap | None = getattr(self._local, "buffer", None)
        if buffer is None:
            buffer = self._local.buffer = mmap.mmap(-1, self._buffer_bytes)
        return buffer


class ResidentRows:
    """A table that lies in memory as consecutive parts; the same `gather`, without a disk."""

    def __init__(self, parts: Sequence[Tensor]) -> None:
        self._parts = parts
        self._starts = torch.tensor([0, *[len(part) for part in parts]]).cumsum(0)

    def gather(self, indices: Tensor) -> Tensor:
        """Rows [T, width] of `indices` [T] int64."""
        if len(self._parts) == 1:
            return self._parts[0][indices]
        rows = torch.empty(len(indices), self._parts[0].shape[1], dtype=self._parts[0].dtype)
        for part, start, stop in zip(
            self._parts, self._starts[:-1].tolist(), self._starts[1:].tolist(), strict=True
        ):
            inside = (indices >= start) & (indices < stop)
            rows[inside] = part[indices[inside] - start]
        return rows
