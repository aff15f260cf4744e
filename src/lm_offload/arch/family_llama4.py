"""Llama 4, text: chunked attention, layers without a rope, a shared expert."""

from __future__ import annotations

from dataclasses import replace

from lm_offload.arch.common import Defaults, parse_decoder
from lm_offload.arch.experts import Choice, with_dense_layers, with_experts
from lm_offload.arch.families_llama import rotated_layers
from lm_offload.arch.fields import Fields
from lm_offload.arch.shapes import LayerConfig, ModelConfig
from lm_offload.arch.temperature import temperature
from lm_offload.quant.kv_format import BLOCK_TOKENS

_CHUNKED, _FULL = "chunked_attention", "full_attention"


def parse_llama4_text(fields: Fields) -> ModelConfig:
    """Scout and Maverick: one expert of many beside one that every token uses."""
    wide = {"intermediate_size": fields.integer("intermediate_size_mlp", 16_384)}
    fields = Fields({"rope_theta": 500_000.0, **fields.raw}, fields.where)
    bias = fields.flag("attention_bias", False)
    shape = Defaults(131_072, bos=1, eos=(2,), kv_heads=8, head_dim=128, norm_eps=1e-5)
    config = parse_decoder(Fields({**fields.raw, **wide}, fields.where), shape)
    config = with_experts(config, fields, "num_local_experts", Choice(16, 1))
    config = _with_layers(config, fields)
    narrow = fields.integer("intermediate_size", 8192)
    return replace(
        with_dense_layers(config, _dense(config, fields), narrow),
        shared_size=narrow,
        qkv_bias=bias,
        output_bias=bias,
        qk_norm_bare=fields.flag("use_qk_norm", True),
        paired_rope=True,
        scales_inputs=True,
    )


def _with_layers(config: ModelConfig, fields: Fields) -> ModelConfig:
    """Layers that rotate see their chunk, others see everything and may have a temperature."""
    rotated = rotated_layers(config, fields)
    kinds = _kinds(config, fields, rotated)
    chunk = _chunk(fields) if _CHUNKED in kinds else None
    if fields.get("attn_temperature_tuning", True):  # a number in older configs
        growth, period = fields.number("attn_scale", 0.1), fields.integer("floor_scale", 8192)
        config = replace(config, ropes=(*config.ropes, temperature(config, growth, period, 1)))
    grows = len(config.ropes) - 1 or None
    layers = (
        LayerConfig(
            window=chunk if kind == _CHUNKED else None,
            rope_index=0 if turns else None,
            tempered=None if turns else grows,
            chunked=kind == _CHUNKED,
        )
        for kind, turns in zip(kinds, rotated, strict=True)
    )
    return replace(config, layers=tuple(layers))


def _kinds(config: ModelConfig, fields: Fields, rotated: list[bool]) -> list[str]:
    if fields.get("layer_types") is None:
        return [_CHUNKED if turns else _FULL for turns in rotated]
    return fields.kinds("layer_types", config.num_layers, (_CHUNKED, _FULL))


def _chunk(fields: Fields) -> int:
    chunk = fields.integer("attention_chunk_size", 8192)
    if chunk % BLOCK_TOKENS:
        raise fields.wrong("attention_chunk_size", f"a multiple of {BLOCK_TOKENS}")
    return chunk


def _dense(config: ModelConfig, fields: Fields) -> list[bool]:
    """Which layers have no experts: `moe_layers` has the others, else every n-th has them."""
    step = fields.integer("interleave_moe_layer_step", 1)
    listed = fields.get("moe_layers")
    mixtures = range(step - 1, config.num_layers, step) if listed is None else listed
    known = mixtures if isinstance(mixtures, (range, list)) else []
    dense = [layer not in known for layer in range(config.num_layers)]
    if all(dense):
        raise fields.wrong("moe_layers", "a list of layers with experts")
    return dense
