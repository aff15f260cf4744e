"""Reads past the page cache: `O_DIRECT`, or buffered reads whose pages are dropped at once."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from weakref import finalize

from lm_offload.errors import StorageError

log = logging.getLogger(__name__)


def open_direct(path: Path, flags: int) -> tuple[int, bool]:
    """A descriptor for page-aligned transfers, and whether they go past the page cache."""
    try:
        descriptor = os.open(path, flags | getattr(os, "O_DIRECT", 0) | os.O_CLOEXEC, 0o666)
        return descriptor, hasattr(os, "O_DIRECT")
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o666)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)  # no read-ahead to drop
    return descriptor, False


class DirectFile:
    """A file opened for page-aligned reads that leave nothing in the page cache."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._fd, self.direct = open_direct(path, os.O_RDONLY)
        except OSError as error:
            raise StorageError(f"Weight file {path.name} cannot be opened: {error}.") from error
        self._close = finalize(self, os.close, self._fd)
        self.size_bytes = os.fstat(self._fd).st_size

    def read_into(self, memory: memoryview, offset: int) -> int:
        """Fill `memory` from `offset`, both page-aligned; returns the bytes read.

        Fewer bytes than asked for are right only where the file ends. Raises StorageError.
        """
        wanted_bytes = min(len(memory), self.size_bytes - offset)
        done_bytes = 0
        while done_bytes < wanted_bytes:
            count = self._read(memory[done_bytes:], offset + done_bytes)
            if count == 0:
                raise StorageError(
                    f"Weight file {self.path.name} ended at byte {offset + done_bytes}, expected "
                    f"{self.size_bytes}; it was truncated while in use."
                )
            done_bytes += count
        return done_bytes

    def _read(self, memory: memoryview, offset: int) -> int:
        try:
            count = os.preadv(self._fd, [memory], offset)
        except OSError as error:
            raise StorageError(
                f"Reading {self.path.name} at byte {offset} failed: {error}; check the disk."
            ) from error
        if not self.direct:
            os.posix_fadvise(self._fd, offset, count, os.POSIX_FADV_DONTNEED)
        return count

    def close(self) -> None:
        """Give the descriptor back, as is done when the last user forgets the file."""
        self._close()


def open_files(paths: Iterable[Path]) -> dict[Path, DirectFile]:
    """Every path opened once; one warning if the file system has no direct reads."""
    files = {path: DirectFile(path) for path in sorted(set(paths))}
    buffered = [path.name for path, file in files.items() if not file.direct]
    if buffered:
        log.warning(
            "No direct reads on the file system of %s: reading through the page cache and dropping "
            "the pages, which costs an extra copy (about 0.3 CPU s per GB).",
            buffered[0],
        )
    return files
