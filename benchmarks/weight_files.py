"""The weight files of a checkpoint that a benchmark runs."""

from __future__ import annotations

from pathlib import Path

from lm_offload.errors import CheckpointError


def weight_file_bytes(folder: Path) -> int:
    """Of all of them; 0 where there are none."""
    return sum(map(_size_bytes, folder.glob("*.safetensors")))


def largest_weight_file(folder: Path) -> Path:
    """What the disk is measured on; raises CheckpointError where there is none."""
    if not (files := list(folder.glob("*.safetensors"))):
        raise CheckpointError(f"{folder} has no safetensors files; name a checkpoint's folder.")
    return max(files, key=_size_bytes)


def _size_bytes(path: Path) -> int:
    return path.stat().st_size
