"""Where a KV cache may lie on disk, and how much of the disk it may take."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from lm_offload.errors import ConfigError, StorageError
from lm_offload.home_path import expanded
from lm_offload.storage.user_cache import user_cache_folder

log = logging.getLogger(__name__)

ROOM_FRAC = 0.9  # of what is free; the rest is left to others
IN_MEMORY_TYPES = ("tmpfs", "ramfs")


def spill_folder(given: str | Path | None = None) -> Path:
    """The folder that a user named, or the cache folder; it need not exist.

    Raises ConfigError for one that cannot be made or written, and warns of one in memory.
    """
    if not given:
        return user_cache_folder()
    folder = expanded(given)
    existing = _nearest(folder)
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise ConfigError(
            f"The spill folder {folder} cannot be used: {existing} is no folder that is writable; "
            "name one on a disk with --spill-dir."
        )
    if _is_memory(existing.resolve()):
        log.warning("%s lies in memory and not on a disk: no KV cache is planned there.", folder)
    return folder


def spill_room_bytes(folder: Path) -> int:
    """Bytes that a file in `folder` may take; 0 where that is memory and no disk.

    Raises StorageError for a folder that cannot be asked.
    """
    existing = _nearest(folder)
    if _is_memory(existing.resolve()):
        return 0
    try:
        found = os.statvfs(existing)
    except OSError as error:
        raise StorageError(
            f"The disk of {folder} cannot be asked for its room ({error}); name a folder that is "
            "readable with --spill-dir."
        ) from error
    return int(found.f_bavail * found.f_frsize * ROOM_FRAC)


def _nearest(folder: Path) -> Path:
    """Itself, or of the folders that it is to lie in the one that is there."""
    return next(place for place in (folder, *folder.absolute().parents) if place.exists())


def _is_memory(folder: Path) -> bool:
    """Whether a folder lies in a file system that is kept in memory."""
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    types = {Path(fields[1]): fields[2] for fields in map(str.split, mounts)}
    nearest = next(place for place in (folder, *folder.parents, Path("/")) if place in types)
    return types[nearest] in IN_MEMORY_TYPES
