"""Hunyuan of 2025, dense and with experts."""

from __future__ import annotations

from dataclasses import replace

from lm_offload.arch.common import Defaults, parse_decoder
from lm_offload.arch.experts import Choice, with_experts
from lm_offload.arch.fields import Fields
from lm_offload.arch.shapes import ModelConfig


def parse_hunyuan_v1_dense(fields: Fields) -> ModelConfig:
    """Hunyuan, dense: queries and keys normalised by head once they are rotated."""
    fields.must_be("mlp_bias", False)
    fields.must_be("use_qk_norm", True)
    fields.must_be("use_cla", False)
    bias = fields.flag("attention_bias", False)
    config = parse_decoder(_with_base(fields), Defaults(2048, bos=1, eos=(2,), norm_eps=1e-5))
    return replace(config, qkv_bias=bias, output_bias=bias, qk_norm=True)


def parse_hunyuan_v1_moe(fields: Fields) -> ModelConfig:
    """Hunyuan-A13B: the same with experts, and one that every token uses."""
    fields.must_be("moe_layer_num_skipped", 0)
    fields.must_be("use_mixed_mlp_moe", True)
    config = parse_hunyuan_v1_dense(_same_in_all(fields, "num_shared_expert", 1))
    fields = _same_in_all(fields, "moe_intermediate_size", config.intermediate_size)
    for key in ("moe_topk", "num_experts"):
        fields = _of_all_layers(fields, key)
    config = with_experts(config, fields, "num_experts", Choice(1, 1), "moe_topk")
    return replace(config, shared_size=config.intermediate_size)


def _with_base(fields: Fields) -> Fields:
    """Published configs stretch the base of the rope by `alpha`, which they call dynamic."""
    section = fields.section("rope_scaling") or fields.section("rope_parameters")
    if section is None or not section.get("alpha") or section.text("rope_type", "") == "default":
        return fields
    Fields({"type": _kind(section)}, section.where).must_be("type", "dynamic")
    size = fields.integer(
        "head_dim", fields.integer("hidden_size") // fields.integer("num_attention_heads")
    )
    if size <= 2:
        raise fields.wrong("head_dim", "more than 2, or alpha cannot stretch the rope")
    theta = section.number("rope_theta", fields.number("rope_theta", 10_000.0, above=1), above=1)
    theta *= section.number("alpha") ** (size / (size - 2))
    rope = {"rope_type": "default", "rope_theta": theta}
    return Fields({**fields.raw, "rope_scaling": None, "rope_parameters": rope}, fields.where)


def _kind(section: Fields) -> str:
    return section.text("rope_type", section.text("type", "default"))


def _of_all_layers(fields: Fields, key: str) -> Fields:
    """With one number where there is a list of the same for each layer."""
    value = fields.get(key)
    if not isinstance(value, list):
        return fields
    if len(set(map(str, value))) != 1:
        raise fields.wrong(key, "the same number for all layers")
    return Fields({**fields.raw, key: value[0]}, fields.where)


def _same_in_all(fields: Fields, key: str, allowed: int) -> Fields:
    """Refuse what transformers does not compute: other numbers than the one of all layers."""
    _of_all_layers(fields, key).must_be(key, allowed)
    return fields
