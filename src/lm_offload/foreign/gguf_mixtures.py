"""Keys of the architectures that have experts, and of Llama, which may have some.

What llama.cpp computes and does not say in the file is that of its `src/models/*.cpp`.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from lm_offload.arch.fields import Fields
from lm_offload.foreign.gguf_names import QUERY_BIAS
from lm_offload.foreign.gguf_rope import Shapes
from lm_offload.foreign.gguf_windows import WINDOW, windows


def llama(fields: Fields, shapes: Shapes, tensors: Collection[str]) -> dict[str, Any]:
    """Llama; Mistral, which has a window; Mixtral, which has experts."""
    bias = {"attention_bias": QUERY_BIAS in tensors}
    if fields.get("expert_count") not in (None, 0):
        fields.must_be(WINDOW, 0)
        experts = _experts(fields, "num_local_experts")
        return {"model_type": "mixtral", "sliding_window": None} | experts | bias
    if fields.get(WINDOW) in (None, 0):
        return {"model_type": "llama"} | bias
    return {"model_type": "mistral", "sliding_window": fields.integer(WINDOW)} | bias


def qwen3moe(fields: Fields, shapes: Shapes, tensors: Collection[str]) -> dict[str, Any]:
    """Weights of experts are scaled to one."""
    width = fields.integer("expert_feed_forward_length")
    experts = _experts(fields, "num_experts")
    return {
        "model_type": "qwen3_moe",
        "moe_intermediate_size": width,
        "norm_topk_prob": True,
        **experts,
    }


def qwen2moe(fields: Fields, shapes: Shapes, tensors: Collection[str]) -> dict[str, Any]:
    """Weights of experts are as they are; early files say no widths."""
    experts = _experts(fields, "num_experts")
    wide = shapes["intermediate_size"]
    narrow = max(wide // experts["num_experts_per_tok"], 1)
    return {
        "model_type": "qwen2_moe",
        "moe_intermediate_size": fields.integer("expert_feed_forward_length", narrow),
        "shared_expert_intermediate_size": fields.integer(
            "expert_shared_feed_forward_length", wide
        ),
        "norm_topk_prob": False,
        "qkv_bias": QUERY_BIAS in tensors,
        **experts,
    }


def olmoe(fields: Fields, shapes: Shapes, tensors: Collection[str]) -> dict[str, Any]:
    """Weights of experts are as they are."""
    experts = _experts(fields, "num_experts")
    return {"model_type": "olmoe", "norm_topk_prob": False, **experts}


def gpt_oss(fields: Fields, shapes: Shapes, tensors: Collection[str]) -> dict[str, Any]:
    """A window in every second layer."""
    fields.integer(WINDOW)
    return {
        "model_type": "gpt_oss",
        "intermediate_size": fields.integer(
            "expert_feed_forward_length", shapes["intermediate_size"]
        ),
        "attention_bias": QUERY_BIAS in tensors,
        **windows(fields, shapes["num_hidden_layers"], 2),
        **_experts(fields, "num_local_experts"),
    }


def _experts(fields: Fields, key: str) -> dict[str, Any]:
    fields.must_be("expert_weights_scale", 0.0, 1.0)
    return {
        key: fields.integer("expert_count", minimum=2),
        "num_experts_per_tok": fields.integer("expert_used_count"),
    }
