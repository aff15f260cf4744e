"""A model as it lies on disk: config, units and where their tensors are; no weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lm_offload.arch.config import ModelConfig, load_config
from lm_offload.arch.weights import Unit, build_units
from lm_offload.errors import CheckpointError
from lm_offload.quant.format import Format, format_of_dtype
from lm_offload.quant.kv_format import check_head_dim, parse_kv_format
from lm_offload.storage.checkpoint import Checkpoint, open_checkpoint
from lm_offload.storage.layout import UnitLayout, layout_unit, layout_weights
from lm_offload.storage.safetensors_header import DTYPE_NAMES


@dataclass(frozen=True)
class ModelFiles:
    """What the headers of a checkpoint say."""

    folder: Path
    config: ModelConfig
    checkpoint: Checkpoint
    units: Sequence[Unit]
    layouts: Sequence[UnitLayout]
    table_layout: UnitLayout | None  # of the embedding tables, unless the head is tied to them
    kv_wanted: Format | None = None  # of keys and values; None is the checkpoint's own precision

    @property
    def kv_format(self) -> Format:
        """Of the keys and values in the cache."""
        return self.kv_wanted or format_of_dtype(self.config.dtype)

    @property
    def weight_bytes(self) -> int:
        """Bytes of all weights of the checkpoint that the model uses."""
        tables = self.table_layout.weight_bytes if self.table_layout else 0
        return sum(layout.weight_bytes for layout in self.layouts) + tables


def open_model(model: str | Path) -> ModelFiles:
    """Parse config and headers of a local folder or a hub id in the local Hugging Face cache.

    Raises CheckpointError if something is missing or wrong.
    """
    folder = find_folder(model)
    checkpoint = open_checkpoint(folder)
    config = _with_stored_dtype(load_config(folder), checkpoint)
    units = build_units(config, _max_head_bytes(config))
    layouts = [layout_unit(checkpoint, unit) for unit in units]
    embed = units[0]
    untied = [spec for spec in embed.tables if not _is_tied(config, spec.role)]
    tables = layout_weights(checkpoint, "embed.tables", untied) if untied else None
    return ModelFiles(folder, config, checkpoint, units, layouts, tables)


def with_kv_format(files: ModelFiles, name: str | None) -> ModelFiles:
    """The same model with keys and values in a format; None is the checkpoint's own precision.

    Raises ConfigError for one that is unknown or that heads of this size cannot be packed in.
    """
    if name is None:
        return files
    format = parse_kv_format(name)
    check_head_dim(format, files.config.head_dim)
    return replace(files, kv_wanted=format)


def _with_stored_dtype(config: ModelConfig, checkpoint: Checkpoint) -> ModelConfig:
    """The dtype of most bytes in the files; what config.json says of it is often missing or old."""
    sizes_bytes: Counter[str] = Counter()
    for entry in checkpoint.tensors.values():
        sizes_bytes[entry.dtype] += entry.size_bytes
    stored = DTYPE_NAMES.get(sizes_bytes.most_common(1)[0][0]) if sizes_bytes else None
    return replace(config, dtype=stored) if stored else config


def find_folder(model: str | Path) -> Path:
    """The folder of `model`: a path, or an id that the local Hugging Face cache holds."""
    path = Path(model).expanduser()
    if path.is_dir():
        return path
    if path.is_file() or str(model).count("/") > 1:
        raise CheckpointError(
            f"{str(model)!r} is not a folder; give the folder of a Hugging Face checkpoint, or a "
            "hub id that was downloaded before."
        )
    return _cached_folder(str(model))


def _cached_folder(model_id: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model_id, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError) as error:
        raise CheckpointError(
            f"{model_id!r} is neither a folder nor in the local Hugging Face cache; check the path "
            f"or download it first with: hf download {model_id}"
        ) from error


def _max_head_bytes(config: ModelConfig) -> int:
    """Parts of the head are no larger than a gated MLP, so that they need no larger ring."""
    return 3 * config.hidden_size * config.intermediate_size * config.itemsize


def _is_tied(config: ModelConfig, role: str) -> bool:
    return role == "tokens" and config.tie_embeddings
