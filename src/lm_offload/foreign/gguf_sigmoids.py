"""Keys of the architectures whose experts are chosen by sigmoids and a bias.

What llama.cpp computes and does not say in the file is that of its `src/models/*.cpp`.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from lm_offload.arch.fields import Fields
from lm_offload.foreign.gguf_mixtures import expert_counts
from lm_offload.foreign.gguf_names import QUERY_BIAS, QUERY_NORM
from lm_offload.foreign.gguf_rope import Shapes, short_decimal
from lm_offload.foreign.gguf_windows import windows

SIGMOID = 2  # what a file calls it


def glm4moe(fields: Fields, shapes: Shapes, tensors: Collection[str]) -> dict[str, Any]:
    """GLM-4.5 to 4.7, and Solar Open, which is one of them without dense layers."""
    return {
        "model_type": "glm4_moe",
        "attention_bias": QUERY_BIAS in tensors,
        "use_qk_norm": QUERY_NORM in tensors,
        **routed(fields),
    }


def dots1(fields: Fields, shapes: Shapes, tensors: Collection[str]) -> dict[str, Any]:
    """dots.llm1, whose window is not written as GGUF."""
    bias = {"attention_bias": QUERY_BIAS in tensors}
    return {"model_type": "dots1", "sliding_window": None, **bias, **routed(fields)}


def minimax_m2(fields: Fields, shapes: Shapes, tensors: Collection[str]) -> dict[str, Any]:
    """MiniMax-M2: weights of experts are scaled to one."""
    fields.must_be("expert_gating_func", SIGMOID)
    return {"model_type": "minimax_m2", **expert_counts(fields, "num_local_experts")}


def afmoe(fields: Fields, shapes: Shapes, tensors: Collection[str]) -> dict[str, Any]:
    """Trinity: every fourth layer has no window, embeddings are scaled."""
    fields.must_be("expert_weights_norm", True)
    found = routed(fields)
    return {
        "model_type": "afmoe",
        "num_experts": found["n_routed_experts"],
        "num_experts_per_tok": found["num_experts_per_tok"],
        "moe_intermediate_size": found["moe_intermediate_size"],
        "num_shared_experts": fields.integer("expert_shared_count"),
        "num_dense_layers": found["first_k_dense_replace"],
        "route_scale": found["routed_scaling_factor"],
        "mup_enabled": True,
        **windows(fields, shapes["num_hidden_layers"], 4),
    }


def exaone_moe(fields: Fields, shapes: Shapes, tensors: Collection[str]) -> dict[str, Any]:
    """K-EXAONE: every fourth layer has no window unless the file lists them."""
    found = routed(fields)
    return {
        "model_type": "exaone_moe",
        **found,
        "num_experts": found["n_routed_experts"],
        "num_shared_experts": fields.integer("expert_shared_count"),
        **windows(fields, shapes["num_hidden_layers"], 4),
    }


def routed(fields: Fields) -> dict[str, Any]:
    """How experts are chosen and weighed, how wide they are, and in which layers."""
    fields.must_be("expert_gating_func", SIGMOID)
    return {
        "n_routed_experts": fields.integer("expert_count", minimum=2),
        "num_experts_per_tok": fields.integer("expert_used_count"),
        "n_group": fields.integer("expert_group_count", 1),
        "topk_group": fields.integer("expert_group_used_count", 1),
        "moe_intermediate_size": fields.integer("expert_feed_forward_length"),
        "n_shared_experts": fields.integer("expert_shared_count", 1, minimum=0),
        "first_k_dense_replace": fields.integer("leading_dense_block_count", 0, minimum=0),
        "norm_topk_prob": fields.flag("expert_weights_norm", True),
        "routed_scaling_factor": short_decimal(fields.number("expert_weights_scale", 1.0)),
    }
