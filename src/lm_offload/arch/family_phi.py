"""Phi-3.5-MoE: layer norms, biases, and a router that shares weight among the closest alone."""

from __future__ import annotations

from dataclasses import replace

from lm_offload.arch.common import Defaults, parse_decoder, parse_window, with_one_window
from lm_offload.arch.experts import Choice, with_experts
from lm_offload.arch.fields import Fields
from lm_offload.arch.shapes import ModelConfig


def parse_phimoe(fields: Fields) -> ModelConfig:
    """Two experts of each token, weighed one after the other."""
    fields.must_be("num_experts_per_tok", 2)
    fields.must_be("mlp_bias", False)
    bias = fields.flag("attention_bias", False)
    known = {"rope_theta": 1e6, **fields.raw, **_rope(fields)}
    fields = Fields(known, fields.where)
    config = parse_decoder(fields, Defaults(131_072, bos=1, eos=(2,), kv_heads=8, norm_eps=1e-5))
    config = with_experts(config, fields, "num_local_experts", Choice(16, 2))
    return replace(
        with_one_window(config, fields, parse_window(fields)),
        choice_margin=2 * fields.number("router_jitter_noise", 0.01),
        head_bias=fields.flag("lm_head_bias", False),
        qkv_bias=bias,
        output_bias=bias,
        layer_norms=True,
        norm_biases=True,
    )


def _rope(fields: Fields) -> dict[str, object]:
    """The factor of cosines and sines has a name of its own, by length."""
    section = fields.section("rope_scaling") or fields.section("rope_parameters")
    if section is None or section.text("rope_type", section.text("type", "default")) == "default":
        return {}
    short, long = section.number("short_mscale"), section.number("long_mscale")
    section.must_be("long_mscale", short)
    given = {**section.raw, "attention_factor": long}
    return {"rope_scaling": given, "rope_parameters": None}
