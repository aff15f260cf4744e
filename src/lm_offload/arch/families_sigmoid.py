"""Mixtures whose experts are chosen as those of GLM-4.5 are: by sigmoids and a bias, in groups."""

from __future__ import annotations

from dataclasses import replace

from lm_offload.arch.common import Defaults, parse_decoder, parse_window, with_windows
from lm_offload.arch.experts import (
    Choice,
    Groups,
    first_dense,
    with_dense_layers,
    with_experts,
    with_groups,
)
from lm_offload.arch.fields import Fields
from lm_offload.arch.shapes import ModelConfig


def parse_dots1(fields: Fields) -> ModelConfig:
    """dots.llm1: queries and keys normalised by head, dense layers in front."""
    _refuse_others(fields)
    bias = fields.flag("attention_bias", False)
    config = parse_decoder(fields, Defaults(2048, kv_heads=32))
    window, first = parse_window(fields, 4096), fields.integer("max_window_layers", 62, minimum=0)
    sliding = [window is not None and layer >= first for layer in range(config.num_layers)]
    config = with_windows(config, fields, window, sliding)
    config = with_experts(config, fields, "n_routed_experts", Choice(128, 6))
    narrow = fields.integer("moe_intermediate_size", 1408)
    config = with_dense_layers(config, first_dense(config, fields, 0), narrow)
    config = _with_choice(config, fields, shared=2, to_one=False)
    return replace(config, qkv_bias=bias, output_bias=bias, qk_norm=True)


def parse_solar_open(fields: Fields) -> ModelConfig:
    """Solar Open: experts in every layer."""
    _refuse_others(fields)
    fields.must_be("first_k_dense_replace", 0)
    fields.must_be("use_qk_norm", False)
    width = fields.integer("moe_intermediate_size", 1280)
    known = {"rope_theta": 1e6, **fields.raw, "intermediate_size": width}
    fields = Fields(known, fields.where)
    bias = fields.flag("attention_bias", False)
    shape = Defaults(131_072, kv_heads=8, head_dim=128, norm_eps=1e-5)
    config = with_experts(parse_decoder(fields, shape), fields, "n_routed_experts", Choice(128, 8))
    return replace(_with_choice(config, fields, shared=1, to_one=True), qkv_bias=bias)


def _refuse_others(fields: Fields) -> None:
    fields.must_be("scoring_func", "sigmoid", "noaux_tc")
    fields.must_be("topk_method", "noaux_tc")
    fields.must_be("mlp_bias", False)
    fields.must_be("moe_layer_freq", 1)


def _with_choice(config: ModelConfig, fields: Fields, shared: int, to_one: bool) -> ModelConfig:
    """How experts are chosen and weighed, and one that every token uses."""
    return replace(
        with_groups(config, fields, Groups(1, 1)),
        shared_size=config.intermediate_size * fields.integer("n_shared_experts", shared),
        scaled_to_one=fields.flag("norm_topk_prob", to_one),
        routed_scale=fields.number("routed_scaling_factor", 1.0),
        choice_bias=True,
    )
