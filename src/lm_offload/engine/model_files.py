"""A model as it lies on disk: config, units and where their tensors are; no weights."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lm_offload.arch.config import ModelConfig, load_config, parse_config, with_end_tokens
from lm_offload.arch.weights import Unit, build_units
from lm_offload.engine.foreign import Conversion, conversion_in_cache, open_foreign
from lm_offload.engine.formats import quantized_format, refuse_lossy, wanted_format
from lm_offload.engine.model_folder import find_folder
from lm_offload.engine.quantized import packing_in_cache
from lm_offload.errors import CheckpointError, ConfigError
from lm_offload.foreign.model import ForeignModel
from lm_offload.quant.format import Format, format_of_dtype
from lm_offload.storage.checkpoint import Checkpoint, FileStamp, open_checkpoint
from lm_offload.storage.layout import (
    UnitLayout,
    layout_unit,
    layout_weights,
    with_int8_activations,
)
from lm_offload.storage.packed_file import float_entries
from lm_offload.storage.packed_folder import (
    TABLES,
    Packing,
    check_data,
    open_tables,
    packed_layouts,
)
from lm_offload.storage.packed_index import DATA_FILE, INDEX_FILE, read_index
from lm_offload.storage.packed_journal import JOURNAL_FILE
from lm_offload.storage.packed_writer import Progress
from lm_offload.storage.safetensors_header import DTYPE_NAMES

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelFiles:
    """What the headers of a checkpoint say."""

    folder: Path  # or the GGUF file
    config: ModelConfig
    checkpoint: Checkpoint
    units: Sequence[Unit]
    layouts: Sequence[UnitLayout]
    table_layout: UnitLayout | None  # of the embedding tables that no unit loads as its head
    weight_format: Format | None = None  # of the matrices; None is the checkpoint's own precision
    packing: Packing | None = None  # what has to be made before units can be read
    conversion: Conversion | None = None  # of a checkpoint that others quantized
    kv_wanted: Format | None = None  # of keys and values; None is the checkpoint's own precision

    @property
    def stored_format(self) -> Format:
        """Of the matrices: quantized, or the checkpoint's own."""
        return self.weight_format or format_of_dtype(self.config.dtype)

    @property
    def kv_format(self) -> Format:
        """Of the keys and values in the cache."""
        return self.kv_wanted or format_of_dtype(self.config.dtype)

    @property
    def weight_bytes(self) -> int:
        """Bytes of all weights that the model uses, as they are stored."""
        tables = self.table_layout.weight_bytes if self.table_layout else 0
        return sum(layout.weight_bytes for layout in self.layouts) + tables

    @property
    def largest_file(self) -> Path:
        """The file with most of what a sweep reads; of the checkpoint, where that is to be made."""
        paths = {run.path for layout in self.layouts for run in layout.runs if run.path.exists()}
        return max(paths or self.checkpoint.stamps, key=lambda path: path.stat().st_size)

    @property
    def head_is_table(self) -> bool:
        """Whether the head's parts hold the rows of the embedding: tied, and not quantized."""
        return self.config.tie_embeddings and self.weight_format is None


def open_model(
    model: str | Path, weight_format: str | None = None, exact: bool = False
) -> ModelFiles:
    """Parse config and headers of a local folder or a hub id in the local Hugging Face cache.

    With a quantized format the places in the cache are planned; `prepared` makes them. A folder
    that was quantized before is read as it is; one that others quantized, and a GGUF file, is
    planned to be converted. Raises CheckpointError if something is missing or wrong,
    ConfigError for a format that cannot be had or is not `exact`.
    """
    folder, wanted = find_folder(model), wanted_format(weight_format, exact)
    if wanted is None or not wanted.int8_activations:
        return _open(folder, wanted, exact)
    files = _open(folder, wanted.stored, exact)
    layouts = [with_int8_activations(layout) for layout in files.layouts]
    return replace(files, layouts=layouts, weight_format=wanted)


def _open(folder: Path, wanted: Format | None, exact: bool) -> ModelFiles:
    if (folder / INDEX_FILE).exists():
        return _open_quantized(folder, wanted, exact)
    if (folder / JOURNAL_FILE).exists():
        raise CheckpointError(
            f"Quantizing into {folder} was interrupted; run the same lm-offload quantize again."
        )
    if foreign := open_foreign(folder):
        return _open_foreign(foreign, wanted, exact)
    checkpoint = open_checkpoint(folder)
    config = _with_stored_dtype(load_config(folder), checkpoint)
    units = build_units(config, max_head_bytes(config))
    format = quantized_format(wanted, config.dtype)
    if format is None:
        layouts = [layout_unit(checkpoint, unit) for unit in units]
        return _with_tables(ModelFiles(folder, config, checkpoint, units, layouts, None))
    packing = packing_in_cache(checkpoint, config, units, format)
    layouts = packed_layouts(packing.plan, units, packing.data)
    files = ModelFiles(folder, config, checkpoint, units, layouts, None, format, packing)
    return _with_tables(files)


def prepared(files: ModelFiles, threads: int, on_progress: Progress) -> ModelFiles:
    """The same model with its quantized weights in the cache, made now if they are not there.

    Raises StorageError (full disk) or CheckpointError (weights that are no numbers).
    """
    if files.packing is None:
        return files
    if files.conversion and not files.conversion.is_exact:
        log.warning("Reading %s converts it: %s.", files.folder.name, files.conversion.summary)
    files.packing.make(threads, on_progress)
    data = files.packing.data
    stamps = {**files.checkpoint.stamps, data: FileStamp.of(data)}
    return replace(files, checkpoint=replace(files.checkpoint, stamps=stamps), packing=None)


def _open_quantized(folder: Path, wanted: Format | None, exact: bool) -> ModelFiles:
    index = read_index(folder)
    format = index.plan.format
    if wanted not in (None, format):
        raise ConfigError(
            f"The weight format {wanted} was given, {folder} holds {format}; leave the format out "
            "or take the original checkpoint."
        )
    if exact:
        refuse_lossy(format)
    check_data(folder, index)
    config = replace(load_config(folder), dtype=index.plan.dtype)
    units = build_units(config, max_head_bytes(config))
    layouts = packed_layouts(index.plan, units, folder / DATA_FILE)
    checkpoint = open_tables(folder, index)
    quantized = format if format.is_packed else None
    return _with_tables(ModelFiles(folder, config, checkpoint, units, layouts, None, quantized))


def _open_foreign(model: ForeignModel, wanted: Format | None, exact: bool) -> ModelFiles:
    folder = model.checkpoint.folder
    config = with_end_tokens(parse_config(model.config, where=model.name), folder)
    config = _with_stored_dtype(config, model.checkpoint)
    units = build_units(config, max_head_bytes(config))
    packing, conversion = conversion_in_cache(model, config, units, wanted)
    if exact and not conversion.is_exact:
        raise ConfigError(
            f"{folder} cannot be read exactly: {conversion.summary}; leave --exact out, or take "
            "the original checkpoint."
        )
    layouts = packed_layouts(packing.plan, units, packing.data)
    checkpoint = _with_made_tables(model.checkpoint, packing)
    format = packing.plan.format if packing.plan.format.is_packed else None
    files = ModelFiles(
        folder, config, checkpoint, units, layouts, None, format, packing, conversion
    )
    return _with_tables(files)


def _with_made_tables(checkpoint: Checkpoint, packing: Packing) -> Checkpoint:
    """Row tables that the checkpoint does not hold as floats are read from what is made of them."""
    tensors = dict(checkpoint.tensors)
    for unit in packing.plan.units:
        if unit.name == TABLES:
            tensors.update(float_entries(unit, packing.data))
    return replace(checkpoint, tensors=tensors)


def _with_tables(files: ModelFiles) -> ModelFiles:
    tables = [
        spec
        for spec in files.units[0].tables
        if not (files.head_is_table and spec.role == "tokens")
    ]
    if not tables:
        return files
    layout = layout_weights(files.checkpoint, "embed.tables", tables)
    return replace(files, table_layout=layout)


def _with_stored_dtype(config: ModelConfig, checkpoint: Checkpoint) -> ModelConfig:
    """The dtype of most bytes in the files; what config.json says of it is often missing or old."""
    sizes_bytes: Counter[str] = Counter()
    for entry in checkpoint.tensors.values():
        sizes_bytes[entry.dtype] += entry.size_bytes
    stored = DTYPE_NAMES.get(sizes_bytes.most_common(1)[0][0]) if sizes_bytes else None
    return replace(config, dtype=stored) if stored else config


def max_head_bytes(config: ModelConfig) -> int:
    """Parts of the head are no larger than a gated MLP, so that they need no larger ring."""
    return 3 * config.hidden_size * config.intermediate_size * config.itemsize
