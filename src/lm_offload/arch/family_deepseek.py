"""DeepSeek V2, V3 and GLM-4.7-Flash: multi-head latent attention, experts in most layers."""

from __future__ import annotations

from dataclasses import replace

from lm_offload.arch.common import Defaults, parse_decoder
from lm_offload.arch.experts import (
    Choice,
    Groups,
    first_dense,
    typed_dense,
    with_dense_layers,
    with_experts,
    with_groups,
)
from lm_offload.arch.fields import Fields
from lm_offload.arch.rope import RopeConfig, yarn_scale
from lm_offload.arch.shapes import LatentShape, ModelConfig


def parse_deepseek_v3(fields: Fields) -> ModelConfig:
    """DeepSeek V3 and R1: experts chosen by sigmoids and a bias, from the best groups.

    Layers behind the last one guess tokens and are left out.
    """
    fields.must_be("scoring_func", "sigmoid")
    fields.must_be("topk_method", "noaux_tc")
    config = parse_latent(fields, Defaults(4096, bos=0, eos=(1,)))
    config = with_experts(config, fields, "n_routed_experts", Choice(256, 8))
    config = with_groups(config, fields, Groups(8, 4))
    return replace(
        with_widths(config, fields, first=3, narrow=2048, shared=1),
        scaled_to_one=fields.flag("norm_topk_prob", True),
        routed_scale=fields.number("routed_scaling_factor", 2.5),
        choice_bias=True,
        paired_rope=fields.flag("rope_interleave", True),
    )


def parse_deepseek_v2(fields: Fields) -> ModelConfig:
    """DeepSeek V2 and V2-Lite: experts chosen by probability, maybe from the best groups."""
    fields.must_be("scoring_func", "softmax")
    fields.must_be("topk_method", "greedy", "group_limited_greedy")
    fields.must_be("norm_topk_prob", False)
    fields.must_be("mlp_bias", False)
    config = parse_latent(fields, Defaults(2048, bos=1, eos=(2,)))
    config = with_experts(config, fields, "n_routed_experts", Choice(64, 6))
    if fields.get("topk_method") == "group_limited_greedy":
        config = with_groups(config, fields, Groups(1, 1))
    return replace(
        with_widths(config, fields, first=0, narrow=1407, shared=2),
        scaled_to_one=False,
        routed_scale=fields.number("routed_scaling_factor", 1.0),
        paired_rope=True,
    )


def parse_glm4_moe_lite(fields: Fields) -> ModelConfig:
    """GLM-4.7-Flash: DeepSeek V3 with one dense layer in front and other defaults."""
    fields.must_be("mlp_bias", False)
    fields.must_be("topk_method", "noaux_tc")
    sizes = {"q_lora_rank": 768, "qk_nope_head_dim": 192, "v_head_dim": 256}
    fields = Fields({**sizes, **fields.raw}, fields.where)
    config = parse_latent(fields, Defaults(202_752, bos=0, eos=(1,), norm_eps=1e-5))
    config = with_experts(config, fields, "n_routed_experts", Choice(64, 4))
    config = with_groups(config, fields, Groups(1, 1))
    width = fields.integer("moe_intermediate_size", 1536)
    return replace(
        with_dense_layers(config, typed_dense(config, fields), width),
        shared_size=width * fields.integer("n_shared_experts", 1),
        scaled_to_one=fields.flag("norm_topk_prob", True),
        routed_scale=fields.number("routed_scaling_factor", 1.8),
        choice_bias=True,
        paired_rope=fields.flag("rope_interleave", True),
    )


def parse_latent(fields: Fields, defaults: Defaults) -> ModelConfig:
    """A decoder with one head of keys and values, which is what they are made of in all heads."""
    fields.must_be("moe_layer_freq", 1)
    latent = _latent(fields)
    shape = {"head_dim": latent.kept_dim, "num_key_value_heads": 1}
    config = parse_decoder(Fields({**fields.raw, **shape}, fields.where), defaults)
    bias = fields.flag("attention_bias", False)
    rope = replace(config.ropes[0], rotary_dim=latent.rotated_dim)
    return replace(
        config,
        ropes=(rope,),
        latent=latent,
        attention_scale=latent.head_dim**-0.5 * _stretch(fields, rope) ** 2,
        qkv_bias=bias,
        output_bias=bias,
    )


def _latent(fields: Fields) -> LatentShape:
    direct = "q_lora_rank" in fields.raw and fields.get("q_lora_rank") is None
    rotated, rank = fields.integer("qk_rope_head_dim", 64), fields.integer("kv_lora_rank", 512)
    for key, size in (("qk_rope_head_dim", rotated), ("kv_lora_rank", rank)):
        if size % 2:
            raise fields.wrong(key, "an even number")
    return LatentShape(
        query_rank=None if direct else fields.integer("q_lora_rank", 1536),
        kv_rank=rank,
        rotated_dim=rotated,
        other_dim=fields.integer("qk_nope_head_dim", 128),
        value_dim=fields.integer("v_head_dim", 128),
    )


def _stretch(fields: Fields, rope: RopeConfig) -> float:
    """What queries and keys are multiplied with where positions are stretched."""
    section = fields.section("rope_scaling") or fields.section("rope_parameters")
    if section is None or rope.kind == "default" or not section.get("mscale_all_dim"):
        return 1.0
    return yarn_scale(rope.factor, section.number("mscale_all_dim"))


def with_widths(
    config: ModelConfig, fields: Fields, first: int, narrow: int, shared: int
) -> ModelConfig:
    """Of experts, of those that every token uses, and of the MLPs of the first layers."""
    width = fields.integer("moe_intermediate_size", narrow)
    return replace(
        with_dense_layers(config, first_dense(config, fields, first), width),
        shared_size=width * fields.integer("n_shared_experts", shared),
    )
