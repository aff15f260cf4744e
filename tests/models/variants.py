"""Toy checkpoints of every type, and what configs of real ones vary, by name."""

import torch

from tests.newer_toys import GEMMA4_LAYERED, GEMMA4_MIXTURE
from tests.toy import EVERY_TYPE, WINDOW

HALF_HEAD = 8
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 64,
}
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0 + i / 5 for i in range(HALF_HEAD)],
    "long_factor": [2.0 + i for i in range(HALF_HEAD)],
    "original_max_position_embeddings": 128,
}
GEMMA3_ROPES = {
    "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
}
GEMMA4_ROPES = {
    "full_attention": {
        "rope_type": "proportional",
        "rope_theta": 1e5,
        "partial_rotary_factor": 0.5,
    },
    "sliding_attention": {"rope_type": "default", "rope_theta": 1e3},
}


def rope(parameters):
    return {"rope_parameters": parameters}


VARIANTS = {
    **{model_type: (model_type, {}) for model_type in EVERY_TYPE},
    "llama biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama tied": ("llama", {"tie_word_embeddings": True}),
    "llama multi-head": ("llama", {"num_key_value_heads": 4}),
    "llama multi-query": ("llama", {"num_key_value_heads": 1, "head_dim": 24}),
    "llama gelu": ("llama", {"hidden_act": "gelu_pytorch_tanh"}),
    "llama sharded": ("llama", {"max_shard_bytes": 60_000}),
    "llama linear": ("llama", rope({"rope_type": "linear", "rope_theta": 1e4, "factor": 3.0})),
    "llama dynamic": ("llama", rope({"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0})),
    "llama llama3": ("llama", rope(LLAMA3)),
    "llama llama3 without a ramp": ("llama", rope({**LLAMA3, "high_freq_factor": 1.0})),
    "llama yarn": ("llama", rope(YARN)),
    "llama yarn mscale": ("llama", rope({**YARN, "mscale": 0.7, "mscale_all_dim": 1.3})),
    "llama yarn whole": ("llama", rope({**YARN, "truncate": False, "attention_factor": 1.2})),
    "llama longrope": ("llama", rope(LONGROPE)),
    "mistral no window": ("mistral", {"sliding_window": None}),
    "qwen2 no window": ("qwen2", {"use_sliding_window": False}),
    "qwen3 biases": ("qwen3", {"attention_bias": True, "tie_word_embeddings": True}),
    "phi3 longrope": (
        "phi3",
        {**rope(LONGROPE), "original_max_position_embeddings": 128, "sliding_window": None},
    ),
    "phi3 partial": (
        "phi3",
        rope({"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.75}),
    ),
    "gemma2 no softcaps": (
        "gemma2",
        {"attn_logit_softcapping": None, "final_logit_softcapping": None, "attention_bias": True},
    ),
    "gemma2 low softcaps": (
        "gemma2",
        {"attn_logit_softcapping": 1.5, "final_logit_softcapping": 4.0},
    ),
    "gemma3_text scaled": (
        "gemma3_text",
        {**rope(GEMMA3_ROPES), "final_logit_softcapping": 5.0, "attention_bias": True},
    ),
    "gpt_oss low limit": (
        "gpt_oss",
        {"swiglu_limit": 0.8, "swiglu_alpha": 1.1, "num_key_value_heads": 4},
    ),
    "gpt_oss bare": (
        "gpt_oss",
        {
            "attention_bias": False,
            "layer_types": ["full_attention"] * 3,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
        },
    ),
    "qwen2_moe scaled to one": ("qwen2_moe", {"norm_topk_prob": True, "qkv_bias": False}),
    "olmoe as it comes": ("olmoe", {"norm_topk_prob": False, "num_key_value_heads": 4}),
    "glm4_moe one group": (
        "glm4_moe",
        {
            "n_group": 1,
            "topk_group": 1,
            "first_k_dense_replace": 2,
            "norm_topk_prob": False,
            "use_qk_norm": False,
            "attention_bias": True,
            "n_shared_experts": 2,
        },
    ),
    "glm4_moe experts everywhere": ("glm4_moe", {"first_k_dense_replace": 0}),
    "ernie4_5_moe every second": (
        "ernie4_5_moe",
        {"moe_layer_interval": 2, "moe_num_shared_experts": 0, "moe_layer_start_index": 0},
    ),
    "ernie4_5_moe two layers": (
        "ernie4_5_moe",
        {"moe_layer_end_index": 1, "moe_layer_start_index": 0, "moe_num_shared_experts": 2},
    ),
    "deepseek_v3 plain": (
        "deepseek_v3",
        {
            **rope({"rope_type": "default", "rope_theta": 1e4}),
            "n_group": 1,
            "topk_group": 1,
            "q_lora_rank": None,
            "attention_bias": True,
            "rope_interleave": False,
            "first_k_dense_replace": 0,
        },
    ),
    "deepseek_v2 bfloat16": ("deepseek_v2", {"dtype": torch.bfloat16}),
    "deepseek_v2 groups": (
        "deepseek_v2",
        {
            **rope({**YARN, "mscale": 0.707, "mscale_all_dim": 0.707}),
            "topk_method": "group_limited_greedy",
            "n_group": 3,
            "topk_group": 1,
            "q_lora_rank": 24,
            "attention_bias": True,
        },
    ),
    "smollm3 by interval": ("smollm3", {"no_rope_layers": None, "no_rope_layer_interval": 2}),
    "smollm3 biases": ("smollm3", {"attention_bias": True, "mlp_bias": True}),
    "olmo2 biases": ("olmo2", {"attention_bias": True}),
    "olmo3 yarn": (
        "olmo3",
        rope({"full_attention": YARN, "sliding_attention": GEMMA3_ROPES["sliding_attention"]}),
    ),
    "granite biases": ("granite", {"attention_bias": True, "tie_word_embeddings": True}),
    "glm without biases": ("glm", {"attention_bias": False}),
    "glm4 whole": (
        "glm4",
        rope({"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 1.0}),
    ),
    "exaone4 no window": (
        "exaone4",
        {"sliding_window": None, "layer_types": ["full_attention"] * 3},
    ),
    "ernie4_5 biases": ("ernie4_5", {"use_bias": True}),
    "seed_oss output bias": ("seed_oss", {"attention_out_bias": True, "mlp_bias": True}),
    "gemma bfloat16": ("gemma", {"dtype": torch.bfloat16}),
    "opt-350m": ("opt", {"word_embed_proj_dim": 48, "do_layer_norm_before": False}),
    "opt narrow": ("opt", {"word_embed_proj_dim": 48, "tie_word_embeddings": False}),
    "opt bare": ("opt", {"enable_bias": False, "_remove_final_layer_norm": True}),
    "opt gelu": ("opt", {"activation_function": "gelu"}),
    "gemma4_text mixture": ("gemma4_text", GEMMA4_MIXTURE),
    "gemma4_text layered": ("gemma4_text", GEMMA4_LAYERED),
    "gemma4_text values by themselves": (
        "gemma4_text",
        {"attention_k_eq_v": False, **rope(GEMMA4_ROPES), "final_logit_softcapping": None},
    ),
    "ministral3 without a temperature": (
        "ministral3",
        {**rope({**YARN, "llama_4_scaling_beta": 0.0}), "sliding_window": None},
    ),
    "mistral4 plain": ("mistral4", {"n_group": 1, "topk_group": 1, "norm_topk_prob": False}),
    "minimax_m2 whole": ("minimax_m2", rope({"rope_type": "default", "rope_theta": 1e4})),
    "glm4_moe_lite one group": (
        "glm4_moe_lite",
        {"n_group": 1, "topk_group": 1, "mlp_layer_types": ["sparse", "dense", "sparse"]},
    ),
    "llama4_text bare": (
        "llama4_text",
        {
            **rope(LLAMA3),
            "use_qk_norm": False,
            "attn_temperature_tuning": False,
            "interleave_moe_layer_step": 1,
            "num_experts_per_tok": 1,
            "attention_bias": True,
        },
    ),
    "llama4_text long chunks": ("llama4_text", {"attention_chunk_size": 64, "moe_layers": [0, 3]}),
    "cohere biases": ("cohere", {"use_qk_norm": False, "attention_bias": True}),
    "cohere2 by type": (
        "cohere2",
        {"layer_types": ["full_attention", "sliding_attention", "sliding_attention"]},
    ),
    "cohere2 bfloat16": ("cohere2", {"dtype": torch.bfloat16, "tie_word_embeddings": False}),
    "nemotron biases": ("nemotron", {"attention_bias": True, "mlp_bias": True}),
    "starcoder2 without biases": ("starcoder2", {"use_bias": False, "sliding_window": None}),
    "arcee biases": ("arcee", {**rope(YARN), "attention_bias": True, "mlp_bias": True}),
    "hunyuan_v1_dense alpha": (
        "hunyuan_v1_dense",
        rope({"rope_type": "dynamic", "rope_theta": 1e4, "alpha": 50.0, "factor": 1.0}),
    ),
    "dots1 biases": (
        "dots1",
        {"attention_bias": True, "norm_topk_prob": True, "first_k_dense_replace": 0},
    ),
    "solar_open biases": (
        "solar_open",
        {**rope(YARN), "attention_bias": True, "n_group": 1, "topk_group": 1},
    ),
    "granitemoehybrid dense": (
        "granitemoehybrid",
        {
            **rope({"rope_type": "default", "rope_theta": 1e4}),
            "position_embedding_type": "rope",
            "num_local_experts": 0,
            "mamba_proj_bias": True,
            "mamba_conv_bias": False,
            "mamba_d_head": "auto",
        },
    ),
    "granitemoehybrid limits": (
        "granitemoehybrid",
        {
            "time_step_limit": [0.5, 0.9],
            "mamba_n_groups": 1,
            "mamba_expand": 2,
            "mamba_d_head": 32,
            "attention_bias": True,
            "tie_word_embeddings": True,
        },
    ),
    "granitemoehybrid attention alone": (
        "granitemoehybrid",
        {"layer_types": ["attention"] * 4, "num_local_experts": 0},
    ),
    "granitemoehybrid bfloat16": ("granitemoehybrid", {"dtype": torch.bfloat16}),
    "nemotron_h dense": (
        "nemotron_h",
        {
            "layers_block_type": ["mamba", "mlp", "mamba", "attention", "mlp"],
            "num_hidden_layers": 5,
            "use_bias": True,
            "use_conv_bias": False,
            "n_groups": 4,
        },
    ),
    "nemotron_h narrow experts": ("nemotron_h", {"moe_latent_size": 40}),
    "nemotron_h one group": (
        "nemotron_h",
        {
            "layers_block_type": ["attention", "mamba", "moe"],
            "num_hidden_layers": 3,
            "n_group": 1,
            "topk_group": 1,
            "norm_topk_prob": False,
            "n_groups": 1,
        },
    ),
    "lfm2 as wide as it says": (
        "lfm2",
        {"block_auto_adjust_ff_dim": False, "conv_bias": True, "conv_L_cache": 4},
    ),
    "lfm2_moe without biases": (
        "lfm2_moe",
        {"use_expert_bias": False, "norm_topk_prob": False, "tie_word_embeddings": False},
    ),
    "apertus yarn": ("apertus", {**rope(YARN), "attention_bias": True}),
    "afmoe experts everywhere": (
        "afmoe",
        {"num_dense_layers": 0, "mup_enabled": False, "num_shared_experts": 1},
    ),
    "flex_olmo scaled to one": ("flex_olmo", {"norm_topk_prob": True, "num_key_value_heads": 4}),
    "exaone_moe by type": (
        "exaone_moe",
        {
            "mlp_layer_types": ["sparse", "dense", "sparse"],
            "layer_types": ["full_attention", "sliding_attention", "full_attention"],
            "n_group": 1,
            "topk_group": 1,
            "norm_topk_prob": False,
        },
    ),
    "phimoe longrope": (
        "phimoe",
        {
            **rope({**LONGROPE, "short_mscale": 1.2, "long_mscale": 1.2}),
            "original_max_position_embeddings": 128,
            "router_jitter_noise": 0.3,
            "attention_bias": False,
            "lm_head_bias": False,
            "sliding_window": WINDOW,
        },
    ),
    "llama bfloat16": ("llama", {"dtype": torch.bfloat16}),
    "gemma2 bfloat16": ("gemma2", {"dtype": torch.bfloat16}),
    "opt float16": ("opt", {"dtype": torch.float16}),
}
