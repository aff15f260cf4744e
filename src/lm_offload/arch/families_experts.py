"""Mixtures of experts that are one of the dense types but for their experts."""

from __future__ import annotations

from dataclasses import replace

from lm_offload.arch.experts import Choice, with_dense_layers, with_experts
from lm_offload.arch.families_llama import parse_ernie4_5, parse_granite
from lm_offload.arch.fields import Fields
from lm_offload.arch.shapes import ModelConfig


def parse_granitemoe(fields: Fields) -> ModelConfig:
    """Granite 3 with experts in every layer."""
    fields.must_be("mlp_bias", False)
    return with_experts(parse_granite(fields), fields, "num_local_experts", Choice(8, 2))


def parse_ernie4_5_moe(fields: Fields) -> ModelConfig:
    """ERNIE 4.5 with experts in some layers, chosen by probability and a bias."""
    fields.must_be("use_bias", False)
    config = parse_ernie4_5(Fields({"num_key_value_heads": 4, **fields.raw}, fields.where))
    config = with_experts(config, fields, "moe_num_experts", Choice(64, 6), "moe_k")
    narrow = fields.integer("moe_intermediate_size", 1536)
    return replace(
        with_dense_layers(config, _dense(config, fields), narrow),
        shared_size=narrow * fields.integer("moe_num_shared_experts", 2, minimum=0),
        choice_bias=True,
    )


def _dense(config: ModelConfig, fields: Fields) -> list[bool]:
    """Layers outside of those that have experts, and between them."""
    first = fields.integer("moe_layer_start_index", 1, minimum=0)
    last = fields.integer("moe_layer_end_index", -1, minimum=-1)
    last = config.num_layers - 1 if last == -1 else last
    period = fields.integer("moe_layer_interval", 1)
    layers = range(config.num_layers)
    dense = [not first <= layer <= last or (layer + 1) % period != 0 for layer in layers]
    if all(dense):
        raise fields.wrong("moe_layer_start_index", "a layer with experts")
    return dense
