"""Writes blocks of pages past the page cache, a bounded buffer at a time."""

from __future__ import annotations

import errno
import mmap
import os
import zlib
from pathlib import Path

from lm_offload.storage.direct_file import open_direct
from lm_offload.units import MIB, PAGE_BYTES

BUFFER_BYTES = 4 * MIB


class BlockWriter:
    """One file of a known size, which is reserved at once; its methods raise OSError."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        self._fd, self._direct = open_direct(path, os.O_RDWR | os.O_CREAT)
        self._reserve(size_bytes)
        self._buffer = memoryview(mmap.mmap(-1, BUFFER_BYTES))
        self._used_bytes = 0
        self._offset = 0
        self._checksum = 0

    def begin(self, offset: int) -> None:
        """Start a block at a page of the file."""
        self._offset, self._used_bytes, self._checksum = offset, 0, 0

    def write(self, data: memoryview) -> None:
        """Append bytes to the block."""
        while data:
            piece = data[: BUFFER_BYTES - self._used_bytes]
            self._buffer[self._used_bytes : self._used_bytes + len(piece)] = piece
            self._used_bytes += len(piece)
            data = data[len(piece) :]
            if self._used_bytes == BUFFER_BYTES:
                self._flush()

    def pad(self, alignment: int) -> None:
        """Append zeros up to a multiple of `alignment`, which divides a page."""
        self.write(memoryview(bytes(-self._used_bytes % alignment)))

    def end(self) -> int:
        """Fill the last page and wait for the disk; returns the CRC-32 of the block."""
        self.pad(PAGE_BYTES)
        self._flush()
        os.fdatasync(self._fd)
        return self._checksum

    def _reserve(self, size_bytes: int) -> None:
        """Take all of the room on the disk now, or none, so that no write fails for want of it."""
        before_bytes = os.fstat(self._fd).st_size
        try:
            os.posix_fallocate(self._fd, 0, size_bytes)
        except OSError as error:
            cannot_reserve = error.errno in (errno.EINVAL, errno.EOPNOTSUPP)  # some network disks
            os.ftruncate(self._fd, size_bytes if cannot_reserve else before_bytes)
            if not cannot_reserve:
                os.close(self._fd)
                raise

    def _flush(self) -> None:
        data = self._buffer[: self._used_bytes]
        self._checksum = zlib.crc32(data, self._checksum)
        while data:
            count = os.pwrite(self._fd, data, self._offset)
            if not self._direct:
                os.fdatasync(self._fd)  # only clean pages can be dropped
                os.posix_fadvise(self._fd, self._offset, count, os.POSIX_FADV_DONTNEED)
            data, self._offset = data[count:], self._offset + count
        self._used_bytes = 0

    def __enter__(self) -> BlockWriter:
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._fd)
