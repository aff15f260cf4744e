"""The MLP of a layer as two units, each of which is read and computed by itself.

A ring for one of them is smaller than one for both. What the first makes of all rows of a sweep is
kept for the second, and the parts of the head are cut to the size of the first::

    whole    ... attention | mlp                        | attention ...
    cut      ... attention | gate_up    -> rows -> down | attention ...
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import count

from lm_offload.arch.shapes import ModelConfig
from lm_offload.arch.weight_spec import (
    DOWN,
    GATE_UP,
    HEAD_ROW_MULTIPLE,
    Unit,
    WeightSpec,
)

IN_HALVES = frozenset(  # model types whose functions compute halves
    {
        *("llama", "mistral", "ministral3", "qwen2", "qwen3", "qwen3_5_text", "seed_oss"),
        *("smollm3", "granite", "ernie4_5", "hunyuan_v1_dense", "stablelm", "phi3", "glm"),
        *("lfm2", "ministral"),
        *("gemma", "gemma2", "gemma3_text", "olmo2", "olmo3", "exaone4", "glm4"),
    }
)
_FIRST_ROLES = frozenset(
    {
        *("input_norm", "input_norm_bias", "gate_proj", "gate_bias", "up_proj", "up_bias"),
        *("gate_up_proj", "gate_up_bias"),
    }
)


def has_halves(config: ModelConfig) -> bool:
    """Whether the MLPs of a model can be cut: all alike, with gates, in units of their own."""
    own_units = config.gated and not (config.is_moe or config.parallel or config.layer_input_size)
    alike = all(layer.mlp_size is None for layer in config.layers)
    return config.model_type in IN_HALVES and own_units and alike


def are_cut(names: Iterable[str]) -> bool:
    """Whether units of these names are those of a model whose MLPs are cut."""
    return any(name.endswith((f".{GATE_UP}", f".{DOWN}")) for name in names)


def cut_units(config: ModelConfig, units: Sequence[Unit]) -> list[tuple[Unit, ...]]:
    """What becomes of each unit: MLPs have two halves, large parts of the head smaller ones."""
    numbers = count()
    return [tuple(_cut(config, unit, numbers)) for unit in units]


def _cut(config: ModelConfig, unit: Unit, numbers: Iterable[int]) -> Iterable[Unit]:
    if unit.kind == "mlp":
        first = tuple(spec for spec in unit.weights if spec.role in _FIRST_ROLES)
        rest = tuple(spec for spec in unit.weights if spec.role not in _FIRST_ROLES)
        return Unit(GATE_UP, unit.index, first), Unit(DOWN, unit.index, rest)
    if unit.kind == "head":
        parts = _row_parts(config, unit.weights[0])
        return (Unit("head", number, (spec,)) for spec, number in zip(parts, numbers, strict=False))
    return (unit,)


def _row_parts(config: ModelConfig, spec: WeightSpec) -> list[WeightSpec]:
    """Some rows of the head in equal parts no larger than the first half of an MLP."""
    first, last = spec.rows or (0, spec.shape[0])
    most = 2 * config.hidden_size * config.intermediate_size // spec.shape[1]
    parts = -(-(last - first) // max(most, HEAD_ROW_MULTIPLE))
    rows = -(-(last - first) // parts // HEAD_ROW_MULTIPLE) * HEAD_ROW_MULTIPLE
    starts = range(first, last, rows)
    return [replace(spec, rows=(start, min(start + rows, last))) for start in starts]
