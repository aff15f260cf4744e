"""What the config of a compressed-tensors checkpoint says of its weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from lm_offload.arch.fields import Fields
from lm_offload.foreign.grouped import Grouping

FORMATS = (
    "pack-quantized",
    "int-quantized",
    "float-quantized",
    "naive-quantized",
    "mixed-precision",
)
IN_ORDER = (False, "weight", "static")  # what `actorder` says where groups are of neighbours


@dataclass(frozen=True)
class Schemes:
    """Those of all `config_groups`; shapes of tensors tell which one a matrix has."""

    integers: Sequence[Grouping]
    blocks: Sequence[tuple[int, int]]  # of fp8: rows and columns that share a scale; 0 is all


def parse_schemes(fields: Fields) -> Schemes:
    """Raises CheckpointError for wrong fields, UnsupportedModelError for what is not read here."""
    fields.must_be("format", *FORMATS)
    sparsity = fields.section("sparsity_config")
    if sparsity:
        sparsity.must_be("format", "dense")
    weights = list(_weights(fields))
    return Schemes(
        [_grouping(section) for section in weights if section.text("type", "int") == "int"],
        [_block(section) for section in weights if section.text("type", "int") == "float"],
    )


def _weights(fields: Fields) -> Iterator[Fields]:
    groups = fields.section("config_groups") or Fields({}, fields.where)
    for name, group in groups.raw.items():
        section = Fields(group if isinstance(group, Mapping) else {}, f"{groups.where}, {name}")
        weights = section.section("weights")
        if weights is not None:
            weights.must_be("type", "int", "float")
            yield weights


def _grouping(weights: Fields) -> Grouping:
    weights.must_be("num_bits", 4, 8)
    weights.must_be("strategy", "group", "channel")
    grouped = weights.text("strategy", "channel") == "group"
    size = weights.integer("group_size") if grouped else -1
    in_order = weights.get("actorder", False) in IN_ORDER
    symmetric = weights.flag("symmetric", True)
    return Grouping(weights.integer("num_bits"), size, symmetric, in_order)


def _block(weights: Fields) -> tuple[int, int]:
    weights.must_be("num_bits", 8)
    weights.must_be("strategy", "tensor", "channel", "block")
    strategy = weights.text("strategy", "tensor")
    if strategy != "block":
        return (0 if strategy == "tensor" else 1, 0)
    rows, columns = weights.numbers("block_structure", 2)
    return int(rows), int(columns)
