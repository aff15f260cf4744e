"""Plans the conversion of a checkpoint that others quantized into the cache."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lm_offload.arch.config import ModelConfig
from lm_offload.arch.weights import Unit
from lm_offload.engine.formats import quantized_format
from lm_offload.engine.model_folder import model_name
from lm_offload.engine.quantized_cache import entry_folder
from lm_offload.errors import ConfigError
from lm_offload.foreign.converted import ConvertedTensor, Loss, describe
from lm_offload.foreign.folder_model import open_quantized_folder
from lm_offload.foreign.model import ForeignModel
from lm_offload.quant.format import Format, format_of_dtype
from lm_offload.storage.packed_folder import TABLES, Packing
from lm_offload.storage.packed_index import PackedPlan
from lm_offload.storage.packed_layout import UnitSource, place_units
from lm_offload.storage.tensor_source import TensorSource


@dataclass(frozen=True)
class Conversion:
    """What reading a foreign checkpoint does to it."""

    summary: str  # one line for people
    is_exact: bool  # but for what the user asked for
    config: Mapping[str, Any]  # the config.json of what is made


def open_foreign(path: Path) -> ForeignModel | None:
    """The model, if `path` is a GGUF file or a folder that names a method of quantization."""
    if path.is_file():
        from lm_offload.foreign.gguf_model import open_gguf  # with torch

        return open_gguf(path)
    return open_quantized_folder(path, model_name(path))


def conversion_in_cache(
    model: ForeignModel, config: ModelConfig, units: Sequence[Unit], wanted: Format | None
) -> tuple[Packing, Conversion]:
    """What is to be made, and what that does to the weights.

    The format of the plan is that of most matrices, a float one if none of them is quantized.
    Raises ConfigError where `wanted` is another one than that and matrices are no floats.
    """
    sources = _sources(model, units, None)
    format = _main_format(sources)
    if format is None:
        format = quantized_format(wanted, config)
        sources = _sources(model, units, format) if format else sources
    elif wanted not in (None, format):
        raise ConfigError(
            f"The weight format {wanted} was given, {model.name} is quantized already and read as "
            f"{format}; leave the format out or take the original checkpoint."
        )
    format = format or format_of_dtype(config.dtype)
    fingerprint = model.checkpoint.fingerprint()
    plan = PackedPlan(model.name, format, config.dtype, fingerprint, place_units(sources))
    folder = entry_folder(model.name, fingerprint, format)
    packing = Packing(folder, plan, sources, model.checkpoint)
    return packing, _conversion(model, sources)


def _sources(model: ForeignModel, units: Sequence[Unit], wanted: Format | None) -> list[UnitSource]:
    """Units, and the row tables where rows cannot be read from the checkpoint itself."""
    sources = [
        UnitSource(unit.name, [model.tensor(spec, wanted) for spec in unit.loaded])
        for unit in units
    ]
    tables = [model.tensor(spec, None) for spec in units[0].tables]
    if any(isinstance(table, ConvertedTensor) for table in tables):
        sources.append(UnitSource(TABLES, tables))
    return sources


def _main_format(sources: Iterable[UnitSource]) -> Format | None:
    weights: Counter[Format] = Counter()
    for tensor in _tensors(sources):
        if tensor.format.is_packed:
            weights[tensor.format] += math.prod(tensor.shape)
    return weights.most_common(1)[0][0] if weights else None


def _conversion(model: ForeignModel, sources: Iterable[UnitSource]) -> Conversion:
    tensors = [t for t in _tensors(sources) if isinstance(t, ConvertedTensor)]
    is_exact = all(tensor.loss in (Loss.NOTHING, Loss.CHOSEN) for tensor in tensors)
    return Conversion(describe(tensors), is_exact, model.config)


def _tensors(sources: Iterable[UnitSource]) -> list[TensorSource]:
    return [tensor for source in sources for tensor in source.tensors]
