"""A model as it lies on disk: config, units and where their tensors are; no weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lm_offload.arch.config import ModelConfig
from lm_offload.arch.weights import Unit
from lm_offload.engine.foreign import Conversion
from lm_offload.quant.format import Format, format_of_dtype
from lm_offload.storage.checkpoint import Checkpoint
from lm_offload.storage.layout import UnitLayout
from lm_offload.storage.packed_folder import Packing


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
