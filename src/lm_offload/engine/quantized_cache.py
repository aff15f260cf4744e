"""The folder of quantized weights in the cache: `quantized/<model>-<fingerprint>/<format>`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lm_offload.errors import CheckpointError, StorageError
from lm_offload.quant.format import Format
from lm_offload.storage.durable import locked
from lm_offload.storage.packed_folder import distrust, verify_data
from lm_offload.storage.packed_index import DATA_FILE, INDEX_FILE, read_index
from lm_offload.storage.packed_journal import JOURNAL_FILE
from lm_offload.storage.packed_writer import remove_packed
from lm_offload.storage.user_cache import user_cache_folder

FINGERPRINT_DIGITS = 12

State = Literal["complete", "unfinished", "unusable"]


@dataclass(frozen=True)
class CacheEntry:
    """One model in one format."""

    folder: Path
    model: str
    format: str
    size_bytes: int  # on disk
    state: State


def cache_folder() -> Path:
    """Where entries lie; it need not exist."""
    return user_cache_folder() / "quantized"


def entry_folder(model: str, fingerprint: str, format: Format) -> Path:
    """The folder of one model in one format; no name in it needs quoting."""
    name = f"{model}-{fingerprint[:FINGERPRINT_DIGITS]}"
    return cache_folder() / name / str(format).replace(":", "-")


def list_entries() -> list[CacheEntry]:
    """Every entry, by model and format; folders that hold something else are left out."""
    found = ((folder, _state(folder)) for folder in sorted(cache_folder().glob("*/*/")))
    return [_entry(folder, state) for folder, state in found if state]


def verify_entry(entry: CacheEntry) -> CheckpointError | None:
    """Compare every byte with its checksum; says what is wrong, which the next use then mends."""
    try:
        index = read_index(entry.folder)
    except CheckpointError as error:
        return error
    try:
        verify_data(entry.folder, index)
    except CheckpointError as error:
        distrust(entry.folder, index)
        return error
    return None


def remove_entry(entry: CacheEntry) -> None:
    """Delete the files of an entry, and its folders where nothing else lies in them."""
    try:
        with locked(entry.folder, "quantizing weights"):
            remove_packed(entry.folder)
        for folder in (entry.folder, entry.folder.parent):
            if not any(folder.iterdir()):
                folder.rmdir()
    except OSError as error:
        raise StorageError(f"{entry.folder} cannot be deleted ({error}).") from error


def _entry(folder: Path, state: State) -> CacheEntry:
    files = [path for path in folder.iterdir() if path.is_file()]
    size_bytes = sum(os.stat(path).st_blocks * 512 for path in files)
    format = folder.name.replace("-", ":")
    return CacheEntry(folder, folder.parent.name, format, size_bytes, state)


def _state(folder: Path) -> State | None:
    if (folder / INDEX_FILE).exists():
        return "complete" if _is_readable(folder) else "unusable"
    is_ours = (folder / JOURNAL_FILE).exists() or (folder / DATA_FILE).exists()
    return "unfinished" if is_ours else None


def _is_readable(folder: Path) -> bool:
    try:
        read_index(folder)
    except CheckpointError:
        return False
    return True
