"""Qwen3-Next and Qwen3.5: three of four layers are gated delta nets, one attends, with a gate."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lm_offload.arch.common import Defaults, parse_decoder
from lm_offload.arch.experts import Choice, with_experts
from lm_offload.arch.fields import Fields
from lm_offload.arch.recurrent import MOST_KEY_DIM, MOST_TAPS, DeltaShape
from lm_offload.arch.shapes import LayerConfig, ModelConfig

_KINDS = ("linear_attention", "full_attention")


def parse_qwen3_next(fields: Fields) -> ModelConfig:
    """Qwen3-Next: experts in every layer; the projections of a recurrent layer are fused."""
    fields.must_be("decoder_sparse_step", 1)
    fields.must_be("mlp_only_layers", [])
    config = _parse(fields, kv_heads=2, fused=True)
    return replace(
        _with_experts(config, fields, Choice(512, 10)),
        scaled_to_one=fields.flag("norm_topk_prob", True),
    )


def parse_qwen3_5(fields: Fields) -> ModelConfig:
    """Qwen3.5, dense."""
    return _parse(fields, kv_heads=4, fused=False)


def parse_qwen3_5_moe(fields: Fields) -> ModelConfig:
    """Qwen3.5 with experts in every layer."""
    config = _parse(fields, kv_heads=2, fused=False)
    return _with_experts(config, fields, Choice(256, 8))


def _parse(fields: Fields, kv_heads: int, fused: bool) -> ModelConfig:
    """What all of them share; layers that guess tokens (`mtp.*`) are left out."""
    fields.must_be("hidden_act", "silu")
    fields.must_be("attn_output_gate", True)
    left_out: dict[str, Any] = {"partial_rotary_factor": 0.25, "intermediate_size": 5632}
    given = {key: value for key, value in fields.raw.items() if value is not None}
    fields = Fields({**left_out, **given}, fields.where)
    bias = fields.flag("attention_bias", False)
    config = parse_decoder(fields, Defaults(32_768, kv_heads=kv_heads, head_dim=256))
    recurrent = _recurrent_layers(fields, config.num_layers)
    return replace(
        config,
        layers=tuple(LayerConfig(recurrent=each) for each in recurrent),
        recurrent=_shape(fields, fused),
        qkv_bias=bias,
        output_bias=bias,
        qk_norm=True,
        attention_gate=True,
    )


def _with_experts(config: ModelConfig, fields: Fields, default: Choice) -> ModelConfig:
    """Narrow experts, and one that every token uses as much as it is scored."""
    return replace(
        with_experts(config, fields, "num_experts", default),
        intermediate_size=fields.integer("moe_intermediate_size", 512),
        shared_size=fields.integer("shared_expert_intermediate_size", 512),
        shared_gate=True,
    )


def _shape(fields: Fields, fused: bool) -> DeltaShape:
    key_heads = fields.integer("linear_num_key_heads", 16)
    heads = fields.integer("linear_num_value_heads", 32)
    if heads % key_heads:
        raise fields.wrong("linear_num_value_heads", f"a multiple of {key_heads} key heads")
    return DeltaShape(
        key_heads=key_heads,
        heads=heads,
        key_dim=fields.integer("linear_key_head_dim", 128, maximum=MOST_KEY_DIM),
        value_dim=fields.integer("linear_value_head_dim", 128),
        taps=fields.integer("linear_conv_kernel_dim", 4, minimum=2, maximum=MOST_TAPS),
        fused=fused,
    )


def _recurrent_layers(fields: Fields, count: int) -> list[bool]:
    """`layer_types` says which, or all but every `full_attention_interval`-th."""
    interval = fields.integer("full_attention_interval", 4)
    kinds = [_KINDS[(layer + 1) % interval == 0] for layer in range(count)]
    if fields.get("layer_types") is not None:
        kinds = fields.kinds("layer_types", count, _KINDS)
    if "full_attention" not in kinds:
        raise fields.wrong("layer_types", "a list with a layer of full_attention")
    return [kind == "linear_attention" for kind in kinds]
