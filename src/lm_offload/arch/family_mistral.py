"""Ministral of 2024; Ministral 3 and Mistral 4, whose queries grow with their position."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lm_offload.arch.common import (
    Defaults,
    parse_decoder,
    parse_window,
    with_one_window,
    with_windows,
)
from lm_offload.arch.experts import Choice, Groups, with_experts, with_groups
from lm_offload.arch.family_deepseek import parse_latent, with_widths
from lm_offload.arch.fields import Fields
from lm_offload.arch.shapes import ModelConfig
from lm_offload.arch.temperature import tempered_by_rope

_YARN = {
    "rope_type": "yarn",
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
    "llama_4_scaling_beta": 0.1,
}
_MINISTRAL = {
    **_YARN,
    "rope_theta": 1e6,
    "factor": 16.0,
    "original_max_position_embeddings": 16_384,
}
_MISTRAL_4 = {
    **_YARN,
    "rope_theta": 1e4,
    "factor": 128.0,
    "original_max_position_embeddings": 8192,
}


def parse_ministral(fields: Fields) -> ModelConfig:
    """Ministral 8B of 2024: Mistral with a window in some layers, or in all."""
    fields.must_be("attention_bias", False)
    fields.must_be("mlp_bias", False)
    config = parse_decoder(fields, Defaults(131_072, bos=1, eos=(2,), kv_heads=8))
    window = parse_window(fields, 4096)
    return with_windows(config, fields, window, [window is not None] * config.num_layers)


def parse_ministral3(fields: Fields) -> ModelConfig:
    """Ministral 3: Mistral with a stretched rope and a temperature."""
    fields.must_be("attention_bias", False)
    fields.must_be("mlp_bias", False)
    fields = _with_rope(fields, _MINISTRAL)
    shape = Defaults(262_144, bos=1, eos=(2,), kv_heads=8, head_dim=128, norm_eps=1e-5)
    config = with_one_window(parse_decoder(fields, shape), fields, parse_window(fields))
    return tempered_by_rope(config, fields)


def parse_mistral4(fields: Fields) -> ModelConfig:
    """Mistral 4: DeepSeek's latent attention, experts chosen by probability, a temperature."""
    fields.must_be("mlp_bias", False)
    fields = _with_rope(fields, _MISTRAL_4)
    sizes = {"q_lora_rank": 1024, "kv_lora_rank": 256, "qk_nope_head_dim": 64}
    fields = Fields({**sizes, **fields.raw}, fields.where)
    config = parse_latent(fields, Defaults(1_048_576, bos=1, eos=(2,)))
    config = with_experts(config, fields, "n_routed_experts", Choice(128, 4))
    config = with_groups(config, fields, Groups(1, 1))
    config = replace(
        with_widths(config, fields, first=0, narrow=2048, shared=1),
        scaled_to_one=fields.flag("norm_topk_prob", True),
        routed_scale=fields.number("routed_scaling_factor", 1.0),
        paired_rope=fields.flag("rope_interleave", True),
    )
    return tempered_by_rope(config, fields)


def _with_rope(fields: Fields, missing: dict[str, Any]) -> Fields:
    """With the type's own rope where the config has none.

    The share of a head that turns follows from its parts, and is not read twice.
    """
    section = fields.section("rope_scaling") or fields.section("rope_parameters")
    given = dict(section.raw) if section else missing
    rope = {key: value for key, value in given.items() if key != "partial_rotary_factor"}
    return Fields({**fields.raw, "rope_scaling": None, "rope_parameters": rope}, fields.where)
