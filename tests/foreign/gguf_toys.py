"""Toys of every type that is read from GGUF, with what a file of theirs says or implies."""

from __future__ import annotations

from typing import Any

from tests.toy_shapes import TEMPERED, WINDOW, YARN

_LAYERS = {"num_hidden_layers": 4}
_PHI_ROPE = {
    "rope_type": "longrope",
    "rope_theta": 1000.0,
    "partial_rotary_factor": 0.75,
    "original_max_position_embeddings": 64,
    "short_factor": [1.0, 1.1, 1.3, 1.5, 1.9, 2.5],
    "long_factor": [1.0, 1.5, 2.0, 4.0, 8.0, 16.0],
}
_LOCAL_ROPE = {"rope_theta": 10_000.0, "rope_type": "default"}

# name: (model_type, fields of the toy)
GGUF_TOYS: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen2": ("qwen2", {"use_sliding_window": False}),
    "qwen2 tied": ("qwen2", {"use_sliding_window": False, "tie_word_embeddings": True}),
    "qwen3": ("qwen3", {}),
    "qwen2_moe": ("qwen2_moe", {}),
    "olmoe": ("olmoe", {"norm_topk_prob": False}),
    "gpt_oss": ("gpt_oss", {}),
    "phi3": ("phi3", {}),
    "phi3 longrope": (
        "phi3",
        {
            "rope_parameters": _PHI_ROPE,
            "original_max_position_embeddings": 64,
            "sliding_window": None,
        },
    ),
    "gemma": ("gemma", {}),
    "gemma2": ("gemma2", {"query_pre_attn_scalar": 16}),
    "gemma3": (
        "gemma3_text",
        {
            "query_pre_attn_scalar": 16,
            "sliding_window_pattern": 6,
            "num_hidden_layers": 7,
            "rope_parameters": {
                "sliding_attention": _LOCAL_ROPE,
                "full_attention": {"rope_theta": 1e6, "rope_type": "linear", "factor": 8.0},
            },
        },
    ),
    "olmo2": ("olmo2", {}),
    "olmo3": ("olmo3", {}),
    "exaone4": ("exaone4", {}),
    "exaone4 without a window": (
        "exaone4",
        {"sliding_window": None, "layer_types": ["full_attention"] * 3},
    ),
    "smollm3": ("smollm3", {**_LAYERS, "no_rope_layers": [1, 1, 1, 0]}),
    "granite": ("granite", {}),
    "granite with biases": ("granite", {"attention_bias": True, "mlp_bias": True}),
    "glm4": ("glm4", {}),
    "ernie4_5": ("ernie4_5", {"tie_word_embeddings": True}),
    "ernie4_5 with biases": ("ernie4_5", {"use_bias": True}),
    "cohere": ("cohere", {}),
    "cohere2": ("cohere2", {**_LAYERS, "sliding_window_pattern": 4}),
    "cohere2 with biases": (
        "cohere2",
        {**_LAYERS, "sliding_window_pattern": 4, "attention_bias": True},
    ),
    "starcoder2": ("starcoder2", {"sliding_window": None}),
    "starcoder2 without biases": ("starcoder2", {"sliding_window": None, "use_bias": False}),
    "arcee": ("arcee", {}),
    "arcee with biases": ("arcee", {"attention_bias": True, "mlp_bias": True}),
    "seed_oss": ("seed_oss", {}),
    "seed_oss with a bias of the output": ("seed_oss", {"attention_out_bias": True}),
    "ministral3": (
        "ministral3",
        {
            "sliding_window": None,
            "rope_parameters": {**TEMPERED, "mscale": 1.0, "mscale_all_dim": 1.0},
        },
    ),
    "hunyuan_v1_dense": ("hunyuan_v1_dense", {}),
    "hunyuan_v1_moe": ("hunyuan_v1_moe", {}),
    "granitemoe": ("granitemoe", {}),
    "ernie4_5_moe": ("ernie4_5_moe", {}),
    "glm4_moe": ("glm4_moe", {}),
    "glm4_moe without norms of heads": ("glm4_moe", {"use_qk_norm": False, "attention_bias": True}),
    "dots1": ("dots1", {"sliding_window": None}),
    "minimax_m2": ("minimax_m2", {}),
    "nemotron": ("nemotron", {}),
    "stablelm": ("stablelm", {}),
    "qwen3_next": ("qwen3_next", {}),
    "qwen3_5": ("qwen3_5_text", {}),
    "qwen3_5 with wide heads": ("qwen3_5_text", {"linear_value_head_dim": 32}),
    "qwen3_5_moe": ("qwen3_5_moe_text", {}),
    "granitemoehybrid": ("granitemoehybrid", {}),
    "granitemoehybrid without experts": ("granitemoehybrid", {"num_local_experts": 0}),
    "lfm2": ("lfm2", {"block_auto_adjust_ff_dim": False}),
    "lfm2_moe": ("lfm2_moe", {"routed_scaling_factor": 1.0, "tie_word_embeddings": True}),
    "afmoe": ("afmoe", {**_LAYERS, "layer_types": [*["sliding_attention"] * 3, "full_attention"]}),
    "exaone_moe": ("exaone_moe", {}),
    "deepseek_v2": ("deepseek_v2", {"norm_topk_prob": False}),
    "deepseek_v2 with even heads": (
        "deepseek_v2",
        {"norm_topk_prob": False, "qk_nope_head_dim": 32, "moe_intermediate_size": 128},
    ),
    "deepseek_v3": (
        "deepseek_v3",
        {"rope_parameters": {**YARN, "mscale": 0.7, "mscale_all_dim": 0.7}},
    ),
    "mistral": ("mistral", {"sliding_window": WINDOW}),
    "mixtral": ("mixtral", {}),
    "qwen3_moe": ("qwen3_moe", {"norm_topk_prob": True}),
}


def factors_of(fields: dict[str, Any]) -> dict[str, list[float]]:
    """The tensors that hold a toy's factors of frequencies."""
    rope = fields.get("rope_parameters", {})
    if "long_factor" not in rope:
        return {}
    return {f"rope_factors_{kind}.weight": rope[f"{kind}_factor"] for kind in ("long", "short")}
