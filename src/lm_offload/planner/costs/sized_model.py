"""A model as the planner sees it, from the units of a checkpoint or from a config alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lm_offload.arch.config import ModelConfig
from lm_offload.arch.halves import cut_units, has_halves
from lm_offload.arch.weights import Unit
from lm_offload.planner.costs.expert_sizes import ExpertSizes
from lm_offload.planner.costs.model_sizes import ModelSizes, UnitSize, spec_bytes
from lm_offload.quant.format import Format
from lm_offload.units import align_up


def sized_units(
    config: ModelConfig, units: Sequence[Unit], bytes_of: Callable[[int, Unit], int]
) -> list[UnitSize]:
    """Units with their parts, where they can be cut.

    `bytes_of` gives the memory of a unit, or of a part of the unit of that number.
    """
    parts = cut_units(config, units) if has_halves(config) else [()] * len(units)
    return [
        UnitSize(
            unit,
            bytes_of(number, unit),
            tuple(UnitSize(part, bytes_of(number, part)) for part in parts[number]),
        )
        for number, unit in enumerate(units)
    ]


def model_sizes(
    config: ModelConfig,
    weight_format: Format,
    sized: Sequence[UnitSize],
    table_bytes: int,
    kv_wanted: Format | None = None,
) -> ModelSizes:
    """A model with these units, the experts among them by themselves."""
    always = [it for it in sized if it.unit.kind != "expert"]
    experts = ExpertSizes([it for it in sized if it.unit.kind == "expert"])
    found = experts if config.is_moe else None
    return ModelSizes(config, weight_format, always, table_bytes, kv_wanted, found)


def sizes_of_config(
    config: ModelConfig,
    units: Sequence[Unit],
    weight_format: Format,
    kv_wanted: Format | None = None,
) -> ModelSizes:
    """The sizes of a model of which there are no files, laid out as packed folders are."""

    def bytes_of(_: int, unit: Unit) -> int:
        return _unit_bytes(unit, weight_format, config)

    sized = sized_units(config, units, bytes_of)
    tied = config.tie_embeddings and not weight_format.is_packed
    tables = [spec for spec in units[0].tables if not (tied and spec.role == "tokens")]
    table_bytes = align_up(sum(spec.elements * config.itemsize for spec in tables))
    return model_sizes(config, weight_format, sized, table_bytes, kv_wanted)


def _unit_bytes(unit: Unit, weight_format: Format, config: ModelConfig) -> int:
    specs = (align_up(spec_bytes(spec, weight_format, config), 64) for spec in unit.loaded)
    return align_up(sum(specs))
