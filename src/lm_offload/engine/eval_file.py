"""Log probabilities of a whole vocabulary for thousands of rows, on disk until they are compared.

In memory they would break the budget: 8192 rows of 128,000 tokens are 4 GiB.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import torch
from torch import Tensor

from lm_offload.errors import StorageError
from lm_offload.units import MIB, format_bytes

F32_BYTES = 4
DROP_BYTES = 32 * MIB  # moved before its pages leave the page cache, which budgets count too


class RowFile:
    """Rows of `columns` f32; reading and writing raise OSError."""

    def __init__(self, descriptor: int, columns: int) -> None:
        self._descriptor = descriptor
        self._columns = columns
        self._moved_bytes = 0

    def write(self, first: int, rows: Tensor) -> None:
        """Store `rows` f32 [R, columns] as the rows from `first` on."""
        data = rows.contiguous().numpy().data.cast("B")
        offset = first * self._columns * F32_BYTES
        while data:
            count = os.pwrite(self._descriptor, data, offset)
            data, offset = data[count:], offset + count
        self._drop_pages_after(rows.nbytes)

    def read(self, first: int, count: int) -> Tensor:
        """The rows from `first` on, f32 [count, columns]."""
        rows = torch.empty(count, self._columns)
        data = rows.numpy().data.cast("B")
        offset = first * self._columns * F32_BYTES
        while data:
            moved = os.preadv(self._descriptor, [data], offset)
            data, offset = data[moved:], offset + moved
        self._drop_pages_after(rows.nbytes)
        return rows

    def _drop_pages_after(self, size_bytes: int) -> None:
        self._moved_bytes += size_bytes
        if self._moved_bytes >= DROP_BYTES:
            os.fdatasync(self._descriptor)  # only clean pages can leave
            os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            self._moved_bytes = 0


@contextmanager
def row_file(folder: Path, rows: int, columns: int) -> Iterator[RowFile]:
    """A file without a name in `folder` that vanishes with the block, its room reserved now.

    Raises StorageError where there is no room.
    """
    with _reserved(folder, rows * columns * F32_BYTES) as file:
        yield RowFile(file.fileno(), columns)


def _reserved(folder: Path, size_bytes: int) -> IO[bytes]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as undo:
            file = undo.enter_context(tempfile.TemporaryFile(dir=folder))
            os.posix_fallocate(file.fileno(), 0, size_bytes)
            undo.pop_all()
            return file
    except OSError as error:
        raise StorageError(
            f"{folder} has no room for {format_bytes(size_bytes)} of log probabilities to compare "
            f"({error.strerror}); free some, or compare fewer tokens."
        ) from error
