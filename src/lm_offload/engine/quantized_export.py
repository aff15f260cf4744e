"""Quantizes a model when it is asked for: into the cache, or into a folder of its own."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from lm_offload.engine.foreign import Conversion
from lm_offload.engine.model_files import ModelFiles
from lm_offload.engine.opening import open_model
from lm_offload.engine.quantized import encoder
from lm_offload.engine.tokenizer import save_gguf_tokenizer
from lm_offload.errors import CheckpointError, ConfigError, StorageError
from lm_offload.storage.durable import write_whole
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
    bytes_per_weight: float  # of the matrices, scales included
    conversion: str | None  # of a checkpoint that others quantized: what it did


def quantize_model(
    model: str | Path,
    weight_format: str | None,
    output: Path | None,
    threads: int,
    on_progress: Progress,
) -> QuantizedModel:
    """Quantize into the cache, or into the folder `output`, which then needs no checkpoint.

    A checkpoint that others quantized needs no format: it is converted. Does nothing where that
    is done already, and goes on where a killed call was. Raises ConfigError for a format or folder
    that cannot be used, StorageError for a full disk.
    """
    files = open_model(model, weight_format)
    if files.packing is None:
        raise _nothing_to_quantize(files, weight_format)
    packing = files.packing
    if output is not None:
        packing = _with_tables(packing, files, output)
        _check_target(packing)
    packing.make(partial(encoder, threads), on_progress)
    if output is not None:
        _write_companions(files, output)
    return _summary(packing, files.conversion)


def _nothing_to_quantize(files: ModelFiles, weight_format: str | None) -> ConfigError:
    if weight_format is None and not files.stored_format.is_packed:
        return ConfigError(
            f"No format was given, and {files.folder} is in {files.stored_format}; name one with "
            "--format: int8, int4 or fp8."
        )
    return ConfigError(
        f"The weights of {files.folder} are {files.stored_format} already; name an int8 or int4 "
        "format and an unquantized checkpoint."
    )


def _with_tables(packing: Packing, files: ModelFiles, folder: Path) -> Packing:
    sources = list(packing.sources)
    if sources[-1].name != TABLES:
        sources.append(
            UnitSource(TABLES, own_tensors(files.checkpoint, files.units[0].tables, None))
        )
    return Packing(
        folder, replace(packing.plan, units=place_units(sources)), sources, packing.origin
    )


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


def _write_companions(files: ModelFiles, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if files.folder.is_file():
            save_gguf_tokenizer(files.folder, folder)
        else:
            _copy_companions(files.folder, folder)
        if files.conversion:
            write_whole(folder / "config.json", json.dumps(files.conversion.config).encode())
    except OSError as error:
        raise StorageError(
            f"Writing to {folder} failed: {error}; make room or name a folder that is writable."
        ) from error


def _copy_companions(source: Path, folder: Path) -> None:
    found = {path for pattern in COMPANIONS for path in source.glob(pattern)}
    for path in found:
        if path.is_file() and not path.match(WEIGHT_INDEX):
            shutil.copyfile(path, folder / path.name)


def _summary(packing: Packing, conversion: Conversion | None) -> QuantizedModel:
    plan = packing.plan
    return QuantizedModel(
        model=plan.model,
        format=str(plan.format),
        folder=packing.folder,
        size_bytes=plan.size_bytes,
        checkpoint_bytes=sum(source.size_bytes for source in packing.sources),
        bytes_per_weight=_bytes_per_weight(plan),
        conversion=conversion.summary if conversion else None,
    )


def _bytes_per_weight(plan: PackedPlan) -> float:
    tensors = [tensor for unit in plan.units if unit.name != TABLES for tensor in unit.tensors]
    matrices = [tensor for tensor in tensors if len(tensor.shape) == 2]
    return sum(t.size_bytes for t in matrices) / sum(math.prod(t.shape) for t in matrices)
