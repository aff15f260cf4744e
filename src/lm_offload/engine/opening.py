"""Opens a model: headers of a checkpoint, a folder quantized before, or one that others made."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

from lm_offload.arch.config import ModelConfig, load_config, parse_config, with_end_tokens
from lm_offload.arch.weights import build_units
from lm_offload.engine.foreign import conversion_in_cache, open_foreign
from lm_offload.engine.formats import quantized_format, refuse_lossy, wanted_format
from lm_offload.engine.model_files import ModelFiles
from lm_offload.engine.model_folder import find_folder
from lm_offload.engine.quantized import encoder, packing_in_cache
from lm_offload.errors import CheckpointError, ConfigError
from lm_offload.foreign.model import ForeignModel
from lm_offload.quant.format import Format
from lm_offload.storage.checkpoint import Checkpoint, FileStamp, open_checkpoint
from lm_offload.storage.layout import (
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
from lm_offload.storage.stacks import with_single_experts

log = logging.getLogger(__name__)


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
    config = load_config(folder)
    checkpoint = with_single_experts(open_checkpoint(folder), config.model_type)
    config = _with_stored_dtype(config, checkpoint)
    units = build_units(config, max_head_bytes(config))
    format = quantized_format(wanted, config)
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
    files.packing.make(partial(encoder, threads), on_progress)
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
    config = with_end_tokens(parse_config(model.config, where=model.config_file), folder)
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
