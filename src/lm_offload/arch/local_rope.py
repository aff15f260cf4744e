"""Layers with a window whose rope is another one than that of the other layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from lm_offload.arch.fields import Fields
from lm_offload.arch.rope import parse_section
from lm_offload.arch.shapes import ModelConfig


def with_local_rope(
    config: ModelConfig, fields: Fields, theta: float, local_theta: float
) -> ModelConfig:
    """Give the layers with a window a rope of their own, which `rope_scaling` does not stretch.

    The thetas stand in for what a section does not say.
    """
    sections = fields.section("rope_parameters") or Fields({}, fields.where)
    if sections.raw and not all(isinstance(v, Mapping) for v in sections.raw.values()):
        raise fields.wrong("rope_parameters", "one object for each layer type")
    size = config.head_dim, config.max_positions
    full = fields.section("rope_scaling") or sections.section("full_attention")
    ropes = (
        parse_section(full, theta, *size),
        parse_section(sections.section("sliding_attention"), local_theta, *size),
    )
    layers = (replace(layer, rope_index=int(layer.window is not None)) for layer in config.layers)
    return replace(config, layers=tuple(layers), ropes=ropes)
