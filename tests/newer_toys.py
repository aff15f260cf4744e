"""Hugging Face configs of toys of the model types of 2025 and 2026."""

from __future__ import annotations

from typing import Any

from tests.toy_shapes import EXPERTS, GATED, LATENT, TEMPERED, VOCAB_SIZE, WINDOW

_LFM2 = {
    "intermediate_size": 88,
    "num_key_value_heads": 2,
    "num_hidden_layers": 4,
    "layer_types": ["conv", "conv", "full_attention", "conv"],
    "norm_eps": 1e-2,  # as with other recurrent layers
}
_COHERE = {**GATED, "logit_scale": 0.4, "tie_word_embeddings": True}
_HEADS = {key: value for key, value in GATED.items() if key != "head_dim"}
_HALF_ROTATED = {
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 10000.0,
        "partial_rotary_factor": 0.5,
    }
}
_SIGMOID = {
    **EXPERTS,
    "n_routed_experts": 6,
    "n_shared_experts": 1,
    "n_group": 3,
    "topk_group": 2,
    "routed_scaling_factor": 1.3,
}
GRANITE = {
    "embedding_multiplier": 6.0,
    "residual_multiplier": 0.4,
    "attention_multiplier": 0.2,
    "logits_scaling": 1.7,
}
NEWER: dict[str, dict[str, Any]] = {
    "ministral3": {**GATED, "sliding_window": WINDOW, "rope_parameters": TEMPERED},
    "mistral4": {
        **LATENT,
        "first_k_dense_replace": 1,
        "n_group": 3,
        "topk_group": 2,
        "routed_scaling_factor": 1.3,
        "rope_parameters": {**TEMPERED, "mscale": 0.7, "mscale_all_dim": 1.3},
    },
    "cohere": {**_COHERE, "use_qk_norm": True},
    "cohere2": {**_COHERE, "sliding_window": WINDOW, "sliding_window_pattern": 3},
    "arcee": GATED,
    "nemotron": GATED,
    "starcoder2": {**_HEADS, "sliding_window": WINDOW},
    "stablelm": {**_HEADS, **_HALF_ROTATED, "use_qkv_bias": True},
    "hunyuan_v1_dense": GATED,
    "hunyuan_v1_moe": {**GATED, "num_experts": 5, "moe_topk": 2},
    "dots1": {
        **GATED,
        **_SIGMOID,
        "moe_intermediate_size": 48,
        "first_k_dense_replace": 1,
        "sliding_window": WINDOW,
        "max_window_layers": 1,
    },
    "solar_open": {**GATED, **_SIGMOID, "moe_intermediate_size": 48},
    "llama4_text": {
        **GATED,
        "num_hidden_layers": 4,
        "intermediate_size": 48,
        "intermediate_size_mlp": 88,
        "num_local_experts": 5,
        "num_experts_per_tok": 2,
        "interleave_moe_layer_step": 2,
        "no_rope_layers": [1, 1, 0, 1],
        "attention_chunk_size": 16,
        "floor_scale": 8,
        "attn_scale": 0.3,
    },
    "minimax_m2": {
        **GATED,
        **EXPERTS,
        "num_local_experts": 5,
        **_HALF_ROTATED,
    },
    "gemma4_text": {
        **GATED,
        "num_hidden_layers": 4,
        "layer_types": [*["sliding_attention"] * 2, "full_attention", "full_attention"],
        "sliding_window": WINDOW,
        "global_head_dim": 32,
        "num_global_key_value_heads": 1,
        "attention_k_eq_v": True,
        "hidden_size_per_layer_input": 0,
        "final_logit_softcapping": 5.0,
        "tie_word_embeddings": True,
    },
    "glm4_moe_lite": {**LATENT, "n_group": 3, "topk_group": 2},
    "granitemoehybrid": {
        **GATED,
        **EXPERTS,
        **GRANITE,
        "num_hidden_layers": 4,
        "layer_types": ["mamba", "mamba", "attention", "mamba"],
        "num_local_experts": 5,
        "shared_intermediate_size": 72,
        "mamba_expand": 1,
        "mamba_n_heads": 4,
        "mamba_d_head": 16,
        "mamba_d_state": 12,
        "mamba_n_groups": 2,
        "rms_norm_eps": 1e-2,  # as with other recurrent layers
    },
    "nemotron_h": {
        **{key: value for key, value in GATED.items() if key != "intermediate_size"},
        **_SIGMOID,
        "layers_block_type": ["mamba", "moe", "mamba", "attention", "mlp", "mamba", "moe"],
        "num_hidden_layers": 7,
        "intermediate_size": 88,
        "moe_intermediate_size": 48,
        "moe_shared_expert_intermediate_size": 72,
        "mamba_num_heads": 4,
        "mamba_head_dim": 16,
        "ssm_state_size": 12,
        "n_groups": 2,
        "layer_norm_epsilon": 1e-2,
    },
    "ministral": {
        **GATED,
        "sliding_window": WINDOW,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    },
    "lfm2": {**_LFM2, "block_multiple_of": 24, "block_ffn_dim_multiplier": 1.3},
    "lfm2_moe": {
        **_LFM2,
        **EXPERTS,
        "num_experts": 5,
        "moe_intermediate_size": 48,
        "num_dense_layers": 1,
        "routed_scaling_factor": 1.3,
    },
    "apertus": GATED,
    "afmoe": {
        **GATED,
        **EXPERTS,
        "num_experts": 5,
        "moe_intermediate_size": 48,
        "num_dense_layers": 1,
        "num_shared_experts": 2,
        "route_scale": 1.3,
        "sliding_window": WINDOW,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        "mup_enabled": True,
    },
    "flex_olmo": {**GATED, **EXPERTS, "num_experts": 5},
    "exaone_moe": {
        **GATED,
        **EXPERTS,
        "num_experts": 6,
        "moe_intermediate_size": 48,
        "n_group": 3,
        "topk_group": 2,
        "sliding_window": WINDOW,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    },
    "phimoe": {
        **_HEADS,
        **EXPERTS,
        "num_local_experts": 5,
        "attention_bias": True,
        "lm_head_bias": True,
    },
}
GEMMA4_LAYERED = {  # inputs of single layers, keys and values that layers share
    "num_hidden_layers": 6,
    "layer_types": [*["sliding_attention", "full_attention"] * 3],
    "num_kv_shared_layers": 3,
    "use_double_wide_mlp": True,
    "hidden_size_per_layer_input": 16,
    "vocab_size_per_layer_input": VOCAB_SIZE,
    "attention_k_eq_v": False,
    "num_global_key_value_heads": None,
}
GEMMA4_MIXTURE = {  # of gemma4_text
    "enable_moe_block": True,
    "num_experts": 5,
    "top_k_experts": 2,
    "moe_intermediate_size": 48,
}
