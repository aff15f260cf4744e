"""Types that are Llama with a few constants of their own."""

from __future__ import annotations

from dataclasses import replace

from lm_offload.arch.common import Defaults, parse_decoder
from lm_offload.arch.fields import Fields
from lm_offload.arch.shapes import LayerConfig, ModelConfig


def parse_smollm3(fields: Fields) -> ModelConfig:
    """SmolLM 3: every fourth layer is not rotated."""
    fields.must_be("use_sliding_window", False)
    fields = Fields({"rope_theta": 2e6, **fields.raw}, fields.where)
    bias, mlp_bias = fields.flag("attention_bias", False), fields.flag("mlp_bias", False)
    defaults = Defaults(32_768, bos=128_000, eos=(128_001,), kv_heads=4, tied=True)
    config = parse_decoder(fields, defaults)
    layers = tuple(
        LayerConfig(None, 0 if turns else None) for turns in rotated_layers(config, fields)
    )
    return replace(config, layers=layers, qkv_bias=bias, output_bias=bias, mlp_bias=mlp_bias)


def parse_granite(fields: Fields) -> ModelConfig:
    """Granite 3: multipliers of embedding, scores, logits and of what blocks add.

    Hidden states are kept divided by the last one, m: x / m + f(x) is (x + m f(x)) / m. A norm of
    x / m with its epsilon divided by m * m is the norm of x.
    """
    bias, mlp_bias = fields.flag("attention_bias", False), fields.flag("mlp_bias", False)
    config = parse_decoder(fields, Defaults(2048, bos=1, eos=(2,)))
    added = fields.number("residual_multiplier", 1.0)
    return replace(
        config,
        norm_eps=config.norm_eps / added**2,
        embed_scale=fields.number("embedding_multiplier", 1.0) / added,
        attention_scale=fields.number("attention_multiplier", 1.0),
        logits_divisor=fields.number("logits_scaling", 1.0),
        qkv_bias=bias,
        output_bias=bias,
        mlp_bias=mlp_bias,
    )


def parse_seed_oss(fields: Fields) -> ModelConfig:
    """Seed-OSS: biases of queries, keys and values, and maybe of the output."""
    defaults = Defaults(524_288, bos=0, eos=(2,), kv_heads=8, head_dim=128)
    return replace(
        parse_decoder(fields, defaults),
        qkv_bias=fields.flag("attention_bias", True),
        output_bias=fields.flag("attention_out_bias", False),
        mlp_bias=fields.flag("mlp_bias", False),
    )


def parse_ernie4_5(fields: Fields) -> ModelConfig:
    """ERNIE 4.5, dense: neighbouring channels are rotated together."""
    fields = Fields({"rope_theta": 500_000.0, **fields.raw}, fields.where)
    bias = fields.flag("use_bias", False)
    shape = Defaults(131_072, bos=1, eos=(2,), kv_heads=2, head_dim=128, norm_eps=1e-5, tied=True)
    return replace(
        parse_decoder(fields, shape),
        paired_rope=True,
        qkv_bias=bias,
        output_bias=bias,
        mlp_bias=bias,
    )


def rotated_layers(config: ModelConfig, fields: Fields) -> list[bool]:
    """Which layers rotate queries and keys."""
    listed = fields.get("no_rope_layers")  # 1 for a layer with a rope
    if not listed:
        period = fields.integer("no_rope_layer_interval", 4)
        return [(layer + 1) % period != 0 for layer in range(config.num_layers)]
    if not isinstance(listed, list) or len(listed) < config.num_layers:
        raise fields.wrong("no_rope_layers", f"a list of {config.num_layers} times 0 or 1")
    return [bool(turns) for turns in listed[: config.num_layers]]
