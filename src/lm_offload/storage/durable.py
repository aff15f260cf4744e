"""Files that are whole or not there at all, whatever is killed when."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lm_offload.errors import StorageError

log = logging.getLogger(__name__)


def write_whole(path: Path, data: bytes) -> None:
    """Write beside `path`, reach the disk, rename; raises OSError and leaves nothing behind.

    Of a link the file that it leads to is replaced; what is no file (a pipe, /dev/null) stays
    and takes the data.
    """
    if path.exists() and not path.is_file():
        path.write_bytes(data)
        return
    path = path.resolve()
    beside = _beside(path)
    try:
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    sync_folder(path.parent)


def write_named(path: Path, data: bytes) -> None:
    """The same for a file that a user named; raises StorageError."""
    try:
        write_whole(path, data)
    except OSError as error:
        raise StorageError(
            f"{path} cannot be written ({error.strerror}); free some room or name another file."
        ) from error


def remove_whole(path: Path) -> None:
    """Remove a file, if it is there, and what a killed `write_whole` left beside it."""
    path.unlink(missing_ok=True)
    _beside(path).unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make new names in `folder` survive a power failure."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked(folder: Path, purpose: str) -> Iterator[None]:
    """Hold `folder` against other processes; waits, with one warning, while one of them has it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.warning("Another process is %s in %s; waiting for it.", purpose, folder)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)  # releases the lock


def _beside(path: Path) -> Path:
    return path.with_name(path.name + ".tmp")
