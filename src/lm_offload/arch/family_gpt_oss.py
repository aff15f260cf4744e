"""gpt-oss."""

from __future__ import annotations

from dataclasses import replace

from lm_offload.arch.common import Defaults, parse_decoder, parse_window, with_windows
from lm_offload.arch.experts import Choice, with_experts
from lm_offload.arch.fields import Fields
from lm_offload.arch.shapes import ModelConfig

_ROPE = {
    "rope_parameters": None,
    "rope_scaling": {
        "rope_type": "yarn",
        "factor": 32.0,
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "truncate": False,
        "original_max_position_embeddings": 4096,
    },
}


def parse_gpt_oss(fields: Fields) -> ModelConfig:
    """gpt-oss: experts with biases, attention sinks, a window in every second layer, yarn."""
    rope = fields.section("rope_scaling") or fields.section("rope_parameters")
    defaults = {"rope_theta": 150_000.0, "torch_dtype": "bfloat16"}
    given = {**_ROPE, **fields.raw} if rope is None else fields.raw
    fields = Fields({**defaults, **given}, fields.where)
    bias = fields.flag("attention_bias", True)
    config = parse_decoder(fields, Defaults(131_072, kv_heads=8, head_dim=64, norm_eps=1e-5))
    config = with_experts(config, fields, "num_local_experts", Choice(128, 4))
    sliding = [i % 2 == 0 for i in range(config.num_layers)]
    return replace(
        with_windows(config, fields, parse_window(fields, 128), sliding),
        qkv_bias=bias,
        output_bias=bias,
        mlp_bias=True,
        expert_format=_expert_format(fields),
        attention_sinks=True,
        gate_limit=fields.number("swiglu_limit", 7.0),
        gate_slope=fields.number("swiglu_alpha", 1.702),
    )


def _expert_format(fields: Fields) -> str | None:
    section = fields.section("quantization_config")
    return section.text("quant_method") if section else None
