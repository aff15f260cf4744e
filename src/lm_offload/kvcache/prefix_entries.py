"""What lies in a folder of blocks that are kept from one process to the next."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lm_offload.errors import StorageError

SUFFIX = ".kv"


@dataclass(frozen=True)
class PrefixEntry:
    """The blocks of one owner: a model, its formats and kernels."""

    folder: Path
    blocks: int
    size_bytes: int


def list_prefixes(root: Path) -> list[PrefixEntry]:
    """Every owner that has blocks in `root`, by name."""
    found = ((folder, _blocks(folder)) for folder in sorted(root.glob("*/")))
    return [
        PrefixEntry(folder, len(blocks), sum(path.stat().st_size for path in blocks))
        for folder, blocks in found
        if blocks
    ]


def remove_prefixes(entry: PrefixEntry) -> None:
    """Delete the blocks of an owner, and its folder if nothing else lies there."""
    try:
        for path in _blocks(entry.folder):
            path.unlink(missing_ok=True)
        if not any(entry.folder.iterdir()):
            entry.folder.rmdir()
    except OSError as error:
        raise StorageError(f"{entry.folder} cannot be deleted ({error}).") from error


def shrink(root: Path, limit_bytes: int) -> None:
    """Delete the blocks that were not used for longest until `limit_bytes` hold the others."""
    found = [(path, path.stat()) for path in root.glob(f"*/*{SUFFIX}")]
    size_bytes = sum(status.st_size for _, status in found)
    for path, status in sorted(found, key=lambda entry: entry[1].st_mtime_ns):
        if size_bytes <= limit_bytes:
            return
        path.unlink(missing_ok=True)
        size_bytes -= status.st_size


def _blocks(folder: Path) -> list[Path]:
    return list(folder.glob(f"*{SUFFIX}"))
