"""GLM-4 in both of its forms, and GLM-4.5 and 4.6 with experts."""

from __future__ import annotations

from dataclasses import replace

from lm_offload.arch.common import Defaults, parse_decoder
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

_ENDS = (151329, 151336, 151338)


def parse_glm(fields: Fields) -> ModelConfig:
    """GLM-4 of 2024: half of each head is rotated, in pairs of neighbours; one matrix for gate
    and up."""
    fields = Fields({"partial_rotary_factor": 0.5, **fields.raw}, fields.where)
    bias = fields.flag("attention_bias", True)
    defaults = Defaults(131_072, eos=_ENDS, kv_heads=2, head_dim=128, norm_eps=1.5625e-7)
    config = parse_decoder(fields, defaults)
    return replace(config, qkv_bias=bias, paired_rope=True, fused_gate_up=True)


def parse_glm4(fields: Fields) -> ModelConfig:
    """GLM-4 of 2025: what blocks add is normalised too."""
    return replace(parse_glm(fields), post_norms=True)


def parse_glm4_moe(fields: Fields) -> ModelConfig:
    """GLM-4.5 and 4.6: experts but in the first layers, half of each head rotated in halves.

    Layers behind the last one guess tokens and are left out.
    """
    fields = Fields({"partial_rotary_factor": 0.5, **fields.raw}, fields.where)
    bias = fields.flag("attention_bias", False)
    config = parse_decoder(fields, Defaults(131_072, kv_heads=8, norm_eps=1e-5))
    config = with_experts(config, fields, "n_routed_experts", Choice(128, 8))
    config = with_groups(config, fields, Groups(1, 1))
    narrow = fields.integer("moe_intermediate_size", 1408)
    return replace(
        with_dense_layers(config, first_dense(config, fields, 1), narrow),
        shared_size=narrow * fields.integer("n_shared_experts", 1),
        scaled_to_one=fields.flag("norm_topk_prob", True),
        routed_scale=fields.number("routed_scaling_factor", 1.0),
        choice_bias=True,
        qkv_bias=bias,
        qk_norm=fields.flag("use_qk_norm", False),
    )
