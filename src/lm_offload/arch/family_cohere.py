"""Command R and Command R7B / Command A of Cohere."""

from __future__ import annotations

from dataclasses import replace

from lm_offload.arch.common import Defaults, parse_decoder, parse_window, with_windows
from lm_offload.arch.fields import Fields
from lm_offload.arch.shapes import ModelConfig


def parse_cohere(fields: Fields) -> ModelConfig:
    """Command R: neighbouring channels are rotated together, all of them."""
    config = _parse_cohere(fields, 500_000.0)
    return replace(config, qk_norm=fields.flag("use_qk_norm", False))


def parse_cohere2(fields: Fields) -> ModelConfig:
    """Command R7B and Command A: a window in three of four layers, which alone are rotated."""
    fields.must_be("use_qk_norm", False)
    config = _parse_cohere(fields, 10_000.0)
    period = fields.integer("sliding_window_pattern", 4)
    sliding = [(layer + 1) % period != 0 for layer in range(config.num_layers)]
    config = with_windows(config, fields, parse_window(fields, 4096), sliding)
    layers = (replace(it, rope_index=0 if it.window else None) for it in config.layers)
    return replace(config, layers=tuple(layers))


def _parse_cohere(fields: Fields, theta: float) -> ModelConfig:
    """What both share: one norm for both blocks of a layer, a scale of logits, a tied head."""
    fields.must_be("mlp_bias", False)
    fields.must_be("use_parallel_block", True)
    fields.must_be("use_gated_activation", True)
    fields.must_be("rotary_pct", 1.0)
    bias = fields.flag("attention_bias", False)
    epsilon = fields.number("layer_norm_eps", 1e-5)
    known = {"rope_theta": theta, **fields.raw, "rms_norm_eps": epsilon, "head_dim": None}
    defaults = Defaults(8192, bos=5, eos=(255_001,), tied=True)
    return replace(
        parse_decoder(Fields(known, fields.where), defaults),
        logits_divisor=1.0 / fields.number("logit_scale", 0.0625),
        qkv_bias=bias,
        output_bias=bias,
        paired_rope=True,
        layer_norms=True,
        parallel=True,
    )
