"""A file for what does not fit in memory: it has no name, so nothing of it outlives the process."""

from __future__ import annotations

import errno
import fcntl
import logging
import mmap
import os
import tempfile
from pathlib import Path
from weakref import finalize

from lm_offload.errors import StorageError
from lm_offload.storage.direct_file import open_direct
from lm_offload.units import PAGE_BYTES, format_bytes

SECTOR_BYTES = 512  # direct transfers of most disks begin and end at sectors
log = logging.getLogger(__name__)


class SpillFile:
    """Sector-aligned reads and writes past the page cache, of a size that is reserved at once.

    Its room on the disk is taken here, so that a full disk is noticed now and not in the middle
    of a run. Raises StorageError where the folder cannot be written or has no room.
    """

    def __init__(self, folder: Path, size_bytes: int) -> None:
        self.folder = folder
        self._fd, self.direct = self._open()
        self._close = finalize(self, os.close, self._fd)
        try:
            self._reserve(size_bytes)
            self._check_direct()
        except OSError as error:
            self._close()
            raise self._unusable(error, size_bytes) from error

    def read_into(self, memory: memoryview, offset: int) -> int:
        """Fill `memory` from `offset`; returns the bytes read, raises StorageError."""
        done_bytes = 0
        while done_bytes < len(memory):
            try:
                count = os.preadv(self._fd, [memory[done_bytes:]], offset + done_bytes)
            except OSError as error:
                raise self._failed("Reading", error) from error
            if count == 0:
                raise self._failed("Reading", OSError(errno.EIO, "the file ended early"))
            done_bytes += count
        self._forget(offset, done_bytes)
        return done_bytes

    def write_from(self, memory: memoryview, offset: int) -> int:
        """Put `memory` at `offset`; returns the bytes written, raises StorageError."""
        done_bytes = 0
        while done_bytes < len(memory):
            try:
                done_bytes += os.pwrite(self._fd, memory[done_bytes:], offset + done_bytes)
            except OSError as error:
                raise self._failed("Writing", error) from error
        self._forget(offset, done_bytes)
        return done_bytes

    def grow(self, size_bytes: int) -> None:
        """Reserve more; raises StorageError, and is as large as before, where there is no room."""
        try:
            self._reserve(size_bytes)
        except OSError as error:
            raise self._unusable(error, size_bytes) from error

    def close(self) -> None:
        """Give the room on the disk back, as is done when the last user forgets the file."""
        self._close()

    def _open(self) -> tuple[int, bool]:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            created, name = tempfile.mkstemp(prefix=".kv-", dir=self.folder)
            os.close(created)
            try:
                return open_direct(Path(name), os.O_RDWR)
            finally:
                os.unlink(name)
        except OSError as error:
            raise self._unusable(error, 0) from error

    def _reserve(self, size_bytes: int) -> None:
        try:
            os.posix_fallocate(self._fd, 0, size_bytes)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # some network disks
                raise
            os.ftruncate(self._fd, size_bytes)

    def _check_direct(self) -> None:
        """Go through the page cache where direct transfers cannot begin at any sector."""
        sectors = memoryview(mmap.mmap(-1, PAGE_BYTES))[:SECTOR_BYTES]
        try:
            os.pwrite(self._fd, sectors, SECTOR_BYTES)
        except OSError as error:
            if error.errno != errno.EINVAL or not self.direct:
                raise
            flags = fcntl.fcntl(self._fd, fcntl.F_GETFL)
            fcntl.fcntl(self._fd, fcntl.F_SETFL, flags & ~os.O_DIRECT)
            self.direct = False
        if not self.direct:
            log.warning(
                "No direct transfers of sectors in %s: the KV cache on disk goes through the page "
                "cache, which costs an extra copy (about 0.3 CPU s per GB).",
                self.folder,
            )

    def _forget(self, offset: int, size_bytes: int) -> None:
        """Leave nothing in the page cache, which would count as memory of this process."""
        if not self.direct:
            os.fdatasync(self._fd)  # only clean pages can be dropped
            os.posix_fadvise(self._fd, offset, size_bytes, os.POSIX_FADV_DONTNEED)

    def _failed(self, verb: str, error: OSError) -> StorageError:
        if error.errno == errno.ENOSPC:
            return StorageError(
                f"The disk of {self.folder} is full, the KV cache has no room left there; free "
                "some room or name another folder with --spill-dir."
            )
        return StorageError(
            f"{verb} the KV cache in {self.folder} failed: {error}; check the disk or name another "
            "folder with --spill-dir."
        )

    def _unusable(self, error: OSError, size_bytes: int) -> StorageError:
        if error.errno == errno.ENOSPC:
            return StorageError(
                f"The KV cache needs {format_bytes(size_bytes)} of disk in {self.folder}, which "
                "has less; free some room, name another folder with --spill-dir, or ask for fewer "
                "or shorter sequences."
            )
        return StorageError(
            f"The KV cache is to lie in {self.folder}, which cannot be used ({error}); name a "
            "folder that is writable with --spill-dir."
        )
