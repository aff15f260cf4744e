"""A local Hugging Face folder as a set of tensors with known places; holds no weights."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from lm_offload.errors import CheckpointChangedError, CheckpointError
from lm_offload.storage.safetensors_header import TensorEntry, read_header

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"


class FileStamp(NamedTuple):
    """What must stay the same of a file for the places read from its header to hold."""

    inode: int
    size_bytes: int
    modified_ns: int

    @classmethod
    def of(cls, path: Path) -> FileStamp:
        """The stamp of a file as it is now."""
        status = os.stat(path)
        return cls(status.st_ino, status.st_size, status.st_mtime_ns)

    @classmethod
    def now(cls, path: Path) -> FileStamp | None:
        """The same, or None where there is no such file any more."""
        try:
            return cls.of(path)
        except (FileNotFoundError, NotADirectoryError):
            return None


@dataclass(frozen=True)
class Checkpoint:
    """All tensors of a model folder by name, and the stamps of the files that hold them."""

    folder: Path
    tensors: dict[str, TensorEntry]
    stamps: dict[Path, FileStamp]

    def fingerprint(self) -> str:
        """Hex digits that change with config.json and with a weight file's size, time or header."""
        config = self.folder / "config.json"  # a GGUF file has none
        digest = hashlib.blake2b(config.read_bytes() if config.exists() else b"", digest_size=16)
        for path, stamp in sorted(self.stamps.items()):
            digest.update(f"{path.name} {stamp.size_bytes} {stamp.modified_ns}\n".encode())
        for entry in sorted(self.tensors.values(), key=lambda entry: entry.name):
            digest.update(f"{entry.name} {entry.dtype} {entry.shape} {entry.offset}\n".encode())
        return digest.hexdigest()

    def check_unchanged(self) -> None:
        """Raise CheckpointChangedError if a weight file is not what it was when it was opened."""
        for path, stamp in self.stamps.items():
            if FileStamp.now(path) != stamp:
                raise CheckpointChangedError(
                    f"Weight file {path.name} changed while it was in use; "
                    "stop what is writing to it and start again."
                )


def open_checkpoint(folder: Path) -> Checkpoint:
    """Parse the headers of all weight files of `folder`.

    Raises CheckpointError if files are missing, damaged, or the index and the files disagree.
    """
    paths = _weight_files(folder)
    stamps = {path: FileStamp.of(path) for path in paths if path.exists()}
    tensors: dict[str, TensorEntry] = {}
    for path in paths:
        for name, entry in read_header(path).items():
            if name in tensors:
                raise CheckpointError(
                    f"Tensor {name} is in both {tensors[name].path.name} and {path.name}; "
                    "keep only one of them."
                )
            tensors[name] = entry
    return Checkpoint(folder, tensors, stamps)


def _weight_files(folder: Path) -> list[Path]:
    if (folder / INDEX_FILE).exists():
        return [folder / name for name in _index_files(folder / INDEX_FILE)]
    if (folder / SINGLE_FILE).exists():
        return [folder / SINGLE_FILE]
    raise CheckpointError(
        f"{folder} holds neither {SINGLE_FILE} nor {INDEX_FILE}; give the folder of a Hugging "
        "Face checkpoint in safetensors format."
    )


def _index_files(index: Path) -> list[str]:
    try:
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        if not names or any(Path(name).name != name for name in names):
            raise ValueError("file names must be plain names in the same folder")
        return names
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{INDEX_FILE} is not a valid index ({error}); download it again."
        ) from error
