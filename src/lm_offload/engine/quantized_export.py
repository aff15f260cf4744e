"""Quantizes a model when it is asked for: into the cache, or into a folder of its own."""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from lm_offload.engine.model_files import ModelFiles, open_model
from lm_offload.errors import CheckpointError, ConfigError, StorageError
from lm_offload.storage.packed_folder import TABLES, Packing
from lm_offload.storage.packed_index import INDEX_FILE, PackedPlan, read_index
from lm_offload.storage.packed_journal import JOURNAL_FILE
from lm_offload.storage.packed_layout import UnitSource, place_units
from lm_offload.storage.packed_writer import Progress
from lm_offload.storage.tensor_source import own_tensors

# What belongs to a model beside its weights: config, tokenizer, chat template, licence.
COMPANIONS = ("*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken", "LICENSE*", "NOTICE*")
WEIGHT_INDEX = "*.index.json"


@dataclass(frozen=True)
class QuantizedModel:
    """What was made, and where."""

    model: str
    format: str
    folder: Path
    size_bytes: int
    checkpoint_bytes: int  # of the same tensors in their own precision
    bytes_per_weight: float  # of the quantized matrices, scales included


def quantize_model(
    model: str | Path,
    weight_format: str,
    output: Path | None,
    threads: int,
    on_progress: Progress,
) -> QuantizedModel:
    """Quantize into the cache, or into the folder `output`, which then needs no checkpoint.

    Does nothing where that is done already, and goes on where a killed call was. Raises
    ConfigError for a format or folder that cannot be used, StorageError for a full disk.
    """
    files = open_model(model, weight_format)
    if files.packing is None:
        raise ConfigError(
            f"The weights of {files.folder} are {weight_format} already; name an int8 or int4 "
            "format and an unquantized checkpoint."
        )
    packing = files.packing
    if output is not None:
        packing = _with_tables(packing, files, output)
        _check_target(packing)
        _copy_companions(files.folder, output)
    packing.make(threads, on_progress)
    return _summary(packing)


def _with_tables(packing: Packing, files: ModelFiles, folder: Path) -> Packing:
    tables = own_tensors(files.checkpoint, files.units[0].tables, None)
    sources = [*packing.sources, UnitSource(TABLES, tables)]
    return Packing(folder, replace(packing.plan, units=place_units(sources)), sources)


def _check_target(packing: Packing) -> None:
    folder = packing.folder
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not _is_ours(packing)):
        raise ConfigError(
            f"{folder} is a file or holds something else; name a folder that is new or empty, or "
            "the one in which the same command was interrupted."
        )


def _is_ours(packing: Packing) -> bool:
    """Whether the same weights lie there, unfinished ones, or some that cannot be read."""
    if not (packing.folder / INDEX_FILE).exists():
        return (packing.folder / JOURNAL_FILE).exists()
    try:
        return read_index(packing.folder).plan == packing.plan
    except CheckpointError:
        return True


def _copy_companions(source: Path, folder: Path) -> None:
    found = {path for pattern in COMPANIONS for path in source.glob(pattern)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in found:
            if path.is_file() and not path.match(WEIGHT_INDEX):
                shutil.copyfile(path, folder / path.name)
    except OSError as error:
        raise StorageError(
            f"Writing to {folder} failed: {error}; make room or name a folder that is writable."
        ) from error


def _summary(packing: Packing) -> QuantizedModel:
    plan = packing.plan
    return QuantizedModel(
        model=plan.model,
        format=str(plan.format),
        folder=packing.folder,
        size_bytes=plan.size_bytes,
        checkpoint_bytes=sum(source.size_bytes for source in packing.sources),
        bytes_per_weight=_bytes_per_weight(plan),
    )


def _bytes_per_weight(plan: PackedPlan) -> float:
    tensors = [tensor for unit in plan.units for tensor in unit.tensors]
    packed = [tensor for tensor in tensors if tensor.format.is_packed]
    return sum(t.size_bytes for t in packed) / sum(math.prod(t.shape) for t in packed)
