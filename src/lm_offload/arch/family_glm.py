"""GLM-4 in both of its forms."""

from __future__ import annotations

from dataclasses import replace

from lm_offload.arch.common import Defaults, parse_decoder
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
