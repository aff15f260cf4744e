"""Keys of the architectures that have experts, and of Llama, which may have some.

What llama.cpp computes and does not say in the file is that of its `src/models/*.cpp`.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from lm_offload.arch.fields import Fields
from lm_offload.foreign.gguf_dense import multiplied
from lm_offload.foreign.gguf_names import QUERY_BIAS
from lm_offload.foreign.gguf_rope import Shapes
from lm_offload.foreign.gguf_windows import WINDOW, windows


def llama(fields: Fields, shapes: Shapes, tensors: Collection[str]) -> dict[str, Any]:
    """Llama; Mistral, which has a window; Mixtral, which has experts."""
    bias = {"attention_bias": QUERY_BIAS in tensors}
    if fields.get("expert_count") not in (None, 0):
        fields.must_be(WINDOW, 0)
        experts = expert_counts(fields, "num_local_experts")
        return {"model_type": "mixtral", "sliding_window": None} | experts | bias
    if fields.get(WINDOW) in (None, 0):
        return {"model_type": "llama"} | bias
    return {"model_type": "mistral", "sliding_window": fields.integer(WINDOW)} | bias


def qwen3moe(fields: Fields, shapes: Shapes, tensors: Collection[str]) -> dict[str, Any]:
    """Weights of experts are scaled to one."""
    width = fields.integer("expert_feed_forward_length")
    experts = expert_counts(fields, "num_experts")
    return {
        "model_type": "qwen3_moe",
        "moe_intermediate_size": width,
        "norm_topk_prob": True,
        **experts,
    }


def qwen2moe(fields: Fields, shapes: Shapes, tensors: Collection[str]) -> dict[str, Any]:
    """Weights of experts are as they are; early files say no widths."""
    experts = expert_counts(fields, "num_experts")
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
    experts = expert_counts(fields, "num_experts")
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
        **expert_counts(fields, "num_local_experts"),
    }


def granitemoe(fields: Fields, shapes: Shapes, tensors: Collection[str]) -> dict[str, Any]:
    """Granite 3 with experts."""
    dense = multiplied(fields, shapes, tensors)
    return {"model_type": "granitemoe", **dense, **expert_counts(fields, "num_local_experts")}


def ernie4_5_moe(fields: Fields, shapes: Shapes, tensors: Collection[str]) -> dict[str, Any]:
    """ERNIE 4.5 with experts up to the last layer: rows are as Hugging Face has them."""
    chosen = expert_counts(fields, "moe_num_experts")
    return {
        "model_type": "ernie4_5_moe",
        "moe_num_experts": chosen["moe_num_experts"],
        "moe_k": chosen["num_experts_per_tok"],
        "moe_intermediate_size": fields.integer("expert_feed_forward_length"),
        "moe_num_shared_experts": fields.integer("expert_shared_count", 0, minimum=0),
        "moe_layer_start_index": fields.integer("leading_dense_block_count", 0, minimum=0),
        "moe_layer_interval": fields.integer("interleave_moe_layer_step", 1),
    }


def hunyuan_moe(fields: Fields, shapes: Shapes, tensors: Collection[str]) -> dict[str, Any]:
    """Hunyuan-A13B; how its rope is stretched is in the base."""
    chosen = expert_counts(fields, "num_experts")
    return {
        "model_type": "hunyuan_v1_moe",
        "num_experts": chosen["num_experts"],
        "moe_topk": chosen["num_experts_per_tok"],
        "moe_intermediate_size": fields.integer(
            "expert_feed_forward_length", shapes["intermediate_size"]
        ),
        "num_shared_expert": fields.integer("expert_shared_count", 1),
        "attention_bias": QUERY_BIAS in tensors,
    }


def expert_counts(fields: Fields, key: str) -> dict[str, Any]:
    """How many there are, and how many of them a token uses."""
    fields.must_be("expert_weights_scale", 0.0, 1.0)
    return {
        key: fields.integer("expert_count", minimum=2),
        "num_experts_per_tok": fields.integer("expert_used_count"),
    }
