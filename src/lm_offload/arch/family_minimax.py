"""MiniMax-M2."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lm_offload.arch.common import Defaults, parse_decoder
from lm_offload.arch.experts import Choice, with_experts
from lm_offload.arch.fields import Fields
from lm_offload.arch.shapes import ModelConfig


def parse_minimax_m2(fields: Fields) -> ModelConfig:
    """MiniMax-M2: queries and keys normalised over all heads, part of each head rotated.

    Layers behind the last one guess tokens and are left out.
    """
    fields.must_be("scoring_func", "sigmoid")
    fields.must_be("use_routing_bias", True)
    fields.must_be("use_qk_norm", True)
    fields.must_be("qk_norm_type", "per_layer")
    fields.must_be("shared_intermediate_size", 0)
    _refuse_linear_attention(fields)
    fields = Fields({"rope_theta": 5e6, **_share(fields), **fields.raw}, fields.where)
    shape = Defaults(196_608, bos=200_034, eos=(200_020,), kv_heads=8, head_dim=128)
    config = with_experts(parse_decoder(fields, shape), fields, "num_local_experts", Choice(256, 8))
    return replace(config, qk_norm_whole=True, choice_bias=True)


def _share(fields: Fields) -> dict[str, Any]:
    """How much of a head is rotated, which published configs say in channels."""
    if fields.get("rotary_dim") is None:
        return {}
    return {"partial_rotary_factor": fields.integer("rotary_dim") / fields.integer("head_dim", 128)}


def _refuse_linear_attention(fields: Fields) -> None:
    kinds = fields.get("attn_type_list", [])
    kinds = kinds if isinstance(kinds, list) else [kinds]
    for kind in kinds:
        Fields({"attn_type_list": kind}, fields.where).must_be("attn_type_list", 1)
