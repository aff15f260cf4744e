"""Gemma 1, 2 and 3."""

from __future__ import annotations

from dataclasses import replace

from lm_offload.arch.common import Defaults, parse_decoder, parse_window, with_windows
from lm_offload.arch.fields import Fields
from lm_offload.arch.local_rope import with_local_rope
from lm_offload.arch.shapes import ModelConfig


def parse_gemma1(fields: Fields) -> ModelConfig:
    """Gemma 1: no norms of what blocks add."""
    fields.must_be("hidden_act", "gelu", "gelu_pytorch_tanh")  # the tanh form in either case
    fields = Fields({"num_key_value_heads": 16, **fields.raw}, fields.where)
    config = _parse_gemma(fields, 8192)
    return replace(config, attention_scale=config.head_dim**-0.5, post_norms=False)


def parse_gemma2(fields: Fields) -> ModelConfig:
    """Gemma 2: softcaps, a window in every second layer."""
    config = _parse_gemma(fields, 8192)
    sliding = [i % 2 == 0 for i in range(config.num_layers)]
    return replace(
        with_windows(config, fields, parse_window(fields, 4096), sliding),
        attention_softcap=fields.optional_number("attn_logit_softcapping", 50.0),
        final_softcap=fields.optional_number("final_logit_softcapping", 30.0),
    )


def parse_gemma3_text(fields: Fields) -> ModelConfig:
    """Gemma 3, text: queries and keys normalised by head, local layers with their own rope."""
    fields.must_be("attn_logit_softcapping")
    plain = dict.fromkeys(("rope_scaling", "rope_parameters"))  # read by with_local_rope
    config = _parse_gemma(Fields({**fields.raw, **plain}, fields.where), 131_072)
    period = fields.integer("sliding_window_pattern", fields.integer("_sliding_window_pattern", 6))
    sliding = [(i + 1) % period != 0 for i in range(config.num_layers)]
    config = with_windows(config, fields, parse_window(fields, 4096), sliding)
    theta = fields.number("rope_theta", 1_000_000.0, above=1)
    local_theta = fields.number("rope_local_base_freq", 10_000.0, above=1)
    return replace(
        with_local_rope(config, fields, theta, local_theta),
        qk_norm=True,
        final_softcap=fields.optional_number("final_logit_softcapping"),
    )


def _parse_gemma(fields: Fields, max_positions: int) -> ModelConfig:
    """What all of them share: scaled embeddings, norms around both blocks, tied head."""
    fields.must_be("use_bidirectional_attention", False)
    bias = fields.flag("attention_bias", False)
    defaults = Defaults(
        max_positions,
        bos=2,
        eos=(1,),
        kv_heads=4,
        head_dim=256,
        activation="gelu_pytorch_tanh",
        activation_key="hidden_activation",
        tied=True,
    )
    config = parse_decoder(fields, defaults)
    return replace(
        config,
        attention_scale=fields.number("query_pre_attn_scalar", 256) ** -0.5,
        embed_scale=config.hidden_size**0.5,
        qkv_bias=bias,
        output_bias=bias,
        post_norms=True,
    )
