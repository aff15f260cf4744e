"""Keys of the architecture of DeepSeek V2 and V3, which GLM-4.7-Flash has too."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from lm_offload.arch.fields import Fields
from lm_offload.foreign.gguf_rope import Shapes
from lm_offload.foreign.gguf_sigmoids import SIGMOID, routed

_SOFTMAX = 1


def deepseek2(fields: Fields, shapes: Shapes, tensors: Collection[str]) -> dict[str, Any]:
    """DeepSeek V2 where experts are chosen by probability, as files mean that say nothing."""
    sizes = _latent(fields)
    if fields.get("expert_gating_func") == SIGMOID:
        return {"model_type": "deepseek_v3", **routed(fields), **sizes}
    fields.must_be("expert_gating_func", _SOFTMAX)
    without = {key: it for key, it in fields.raw.items() if key != "expert_gating_func"}
    plain = {"expert_weights_norm": False, **without}
    chosen = routed(Fields(plain, fields.where))
    method = "group_limited_greedy" if chosen["n_group"] > 1 else "greedy"
    return {"model_type": "deepseek_v2", "topk_method": method, **chosen, **sizes}


def _latent(fields: Fields) -> dict[str, Any]:
    """Sizes of heads; where all heads share keys, those of a head have keys of their own."""
    rotated = fields.integer("rope.dimension_count")
    key = fields.integer("attention.key_length_mla", fields.integer("attention.key_length"))
    if key <= rotated:
        raise fields.wrong("attention.key_length", f"more than rope.dimension_count={rotated}")
    rank = fields.get("attention.q_lora_rank")
    return {
        "head_dim": rotated,
        "q_lora_rank": None if rank is None else fields.integer("attention.q_lora_rank"),
        "kv_lora_rank": fields.integer("attention.kv_lora_rank"),
        "qk_rope_head_dim": rotated,
        "qk_nope_head_dim": key - rotated,
        "v_head_dim": fields.integer(
            "attention.value_length_mla", fields.integer("attention.value_length", key)
        ),
    }
