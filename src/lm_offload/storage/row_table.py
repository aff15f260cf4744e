"""Rows of an embedding table, read one by one: the table itself is never loaded.

A sweep needs one row for each of its tokens, a few kilobytes of a table of hundreds of
megabytes. Rows already in memory (a tied head that is resident) are copied from there.
Rows that are neighbours in the file are read in one request, so that a long prompt becomes
a few large reads and a decode step a few small ones that are all in flight at once.
"""

from __future__ import annotations

import mmap
import threading
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lm_offload.storage.direct_file import DirectFile
from lm_offload.storage.gather_size import GATHER_THREADS, MERGE_GAP_BYTES, PIECE_BYTES
from lm_offload.storage.layout import Extent
from lm_offload.storage.safetensors_header import DTYPE_NAMES
from lm_offload.units import KIB, PAGE_BYTES, align_down, align_up

COPIED_BYTES = 32 * KIB  # at once, by each thread, on their way from its buffer


@dataclass(frozen=True)
class RowRequest:
    """One request: which of the sorted row numbers it covers, and the pages to read."""

    first: int
    last: int
    file_offset: int
    size_bytes: int


class _Wanted(NamedTuple):
    """Row numbers [T] in ascending order, and where each is to lie in out [rows, row_bytes]."""

    numbers: NDArray[np.int64]
    places: NDArray[np.int64]
    out: NDArray[np.uint8]


class RowTable:
    """One table on disk; `gather` fetches the rows that a sweep needs."""

    def __init__(self, extent: Extent, file: DirectFile, pool: ThreadPoolExecutor) -> None:
        self.num_rows, self.width = extent.shape
        self.dtype: torch.dtype = getattr(torch, DTYPE_NAMES[extent.entry.dtype])
        self.row_bytes = extent.size_bytes // self.num_rows
        self._offset = extent.offset
        self._file = file
        self._pool = pool
        self._local = threading.local()
        self._buffer_bytes = max(PIECE_BYTES, align_up(self.row_bytes) + PAGE_BYTES)
        self._most_step = MERGE_GAP_BYTES // self.row_bytes + 1  # between rows of one request
        self._copied_rows = max(COPIED_BYTES // self.row_bytes, 1)
        self._most_rows = max((PIECE_BYTES - 2 * PAGE_BYTES) // self.row_bytes, 1)

    def gather(self, indices: Tensor) -> Tensor:
        """Rows [T, width] of `indices` [T] int64, in the dtype of the checkpoint."""
        rows = torch.empty(len(indices), self.width, dtype=self.dtype)
        self.fetch(indices, rows.view(torch.uint8), GATHER_THREADS)
        return rows

    def fetch(self, indices: Tensor, out: Tensor, most: int) -> None:
        """The same as bytes, to out [T, row_bytes] uint8; `most` requests at once."""
        asked = indices.numpy()
        places = asked.argsort()
        wanted = _Wanted(asked[places], places, out.numpy())
        requests = list(self._cut(wanted.numbers.tolist()))
        left = iter(requests)  # the next of a list's iterator is atomic

        def fetch() -> None:
            for request in left:
                self._fetch(request, wanted)

        others = [self._pool.submit(fetch) for _ in range(min(most, len(requests)) - 1)]
        try:
            fetch()
        finally:
            wait(others)  # they write to `out`
        for other in others:
            other.result()

    def _cut(self, numbers: Sequence[int]) -> Iterator[RowRequest]:
        """Rows close to one another, from the first on as many as a piece holds."""
        ends = np.flatnonzero(np.diff(numbers) > self._most_step) + 1
        first = 0
        for end in (*ends.tolist(), len(numbers)):
            while first < end:
                beyond = numbers[first] + self._most_rows
                last = bisect_left(numbers, beyond, first, end)
                yield self._request(numbers, first, last)
                first = last

    def _request(self, numbers: Sequence[int], first: int, last: int) -> RowRequest:
        start = align_down(self._offset + numbers[first] * self.row_bytes)
        stop = align_up(self._offset + (numbers[last - 1] + 1) * self.row_bytes)
        return RowRequest(first, last, start, stop - start)

    def _fetch(self, request: RowRequest, wanted: _Wanted) -> None:
        """Without torch: its calls are long for threads that wait for one another to make them."""
        read = memoryview(self._buffer())[: request.size_bytes]
        self._file.read_into(read, request.file_offset)
        first = wanted.numbers[request.first]
        start = self._offset + int(first) * self.row_bytes - request.file_offset
        count = (request.size_bytes - start) // self.row_bytes
        rows = np.frombuffer(read, np.uint8, count * self.row_bytes, start).reshape(count, -1)
        for at in range(request.first, request.last, self._copied_rows):
            which = slice(at, min(at + self._copied_rows, request.last))
            wanted.out[wanted.places[which]] = rows[wanted.numbers[which] - first]

    def _buffer(self) -> mmap.mmap:
        """The read buffer of this thread, page-aligned as a direct read demands."""
        buffer: mmap.mmap | None = getattr(self._local, "buffer", None)
        if buffer is None:
            buffer = self._local.buffer = mmap.mmap(-1, self._buffer_bytes)
        return buffer
