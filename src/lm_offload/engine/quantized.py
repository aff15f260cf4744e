"""Plans the quantized form of a checkpoint in the cache, and what makes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lm_offload.arch.config import ModelConfig
from lm_offload.arch.weights import Unit
from lm_offload.engine.model_folder import model_name
from lm_offload.engine.quantized_cache import entry_folder
from lm_offload.quant.format import Format
from lm_offload.storage.checkpoint import Checkpoint
from lm_offload.storage.packed_folder import Packing
from lm_offload.storage.packed_index import PackedPlan
from lm_offload.storage.packed_layout import UnitSource, place_units
from lm_offload.storage.tensor_source import own_tensors

if TYPE_CHECKING:
    from lm_offload.storage.packed_encode import Encoder


def packing_in_cache(
    checkpoint: Checkpoint, config: ModelConfig, units: Sequence[Unit], format: Format
) -> Packing:
    """Units alone: row tables are read from the checkpoint. Raises ConfigError for odd shapes."""
    sources = [
        UnitSource(unit.name, own_tensors(checkpoint, unit.loaded, format)) for unit in units
    ]
    model, fingerprint = model_name(checkpoint.folder), checkpoint.fingerprint()
    plan = PackedPlan(model, format, config.dtype, fingerprint, place_units(sources))
    return Packing(entry_folder(model, fingerprint, format), plan, sources, checkpoint)


def encoder(threads: int) -> Encoder:
    """What rounds weights on this machine; with torch."""
    from lm_offload.kernels.resolve import resolve_quantize
    from lm_offload.storage.packed_encode import Encoder

    return Encoder(threads, resolve_quantize())
