"""The metadata that llama.cpp's converter writes, by its `conversion/*.py`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from gguf import GGUFWriter

ARCHITECTURES = {
    "mistral": "llama",
    "mixtral": "llama",
    "qwen2_moe": "qwen2moe",
    "qwen3_moe": "qwen3moe",
    "gpt_oss": "gpt-oss",
    "gemma3_text": "gemma3",
    "olmo3": "olmo2",
    "cohere": "command-r",
    "glm4_moe": "glm4moe",
    "solar_open": "glm4moe",
    "ernie4_5_moe": "ernie4_5-moe",
    "hunyuan_v1_dense": "hunyuan-dense",
    "hunyuan_v1_moe": "hunyuan-moe",
    "minimax_m2": "minimax-m2",
    "ministral3": "mistral3",
    "deepseek_v2": "deepseek2",
    "deepseek_v3": "deepseek2",
    "qwen3_next": "qwen3next",
    "qwen3_5_text": "qwen35",
    "qwen3_5_moe_text": "qwen35moe",
    "granitemoehybrid": "granitehybrid",
    "lfm2_moe": "lfm2moe",
    "exaone_moe": "exaone-moe",
}
# What is written under one name wherever a config has it.
KEYS = {
    "num_experts_per_tok": "expert_used_count",
    "num_local_experts": "expert_count",
    "num_experts": "expert_count",
    "n_routed_experts": "expert_count",
    "moe_num_experts": "expert_count",
    "moe_k": "expert_used_count",
    "moe_topk": "expert_used_count",
    "n_group": "expert_group_count",
    "topk_group": "expert_group_used_count",
    "n_shared_experts": "expert_shared_count",
    "moe_num_shared_experts": "expert_shared_count",
    "num_shared_experts": "expert_shared_count",
    "num_dense_layers": "leading_dense_block_count",
    "route_scale": "expert_weights_scale",
    "conv_L_cache": "shortconv.l_cache",
    "moe_layer_interval": "interleave_moe_layer_step",
    "moe_layer_start_index": "leading_dense_block_count",
    "first_k_dense_replace": "leading_dense_block_count",
    "norm_topk_prob": "expert_weights_norm",
    "routed_scaling_factor": "expert_weights_scale",
    "use_parallel_residual": "use_parallel_residual",
    "linear_num_key_heads": "ssm.group_count",
    "linear_num_value_heads": "ssm.time_step_rank",
    "linear_key_head_dim": "ssm.state_size",
    "linear_conv_kernel_dim": "ssm.conv_kernel",
    "mamba_n_heads": "ssm.time_step_rank",
    "mamba_n_groups": "ssm.group_count",
    "mamba_d_state": "ssm.state_size",
    "mamba_d_conv": "ssm.conv_kernel",
    "shared_intermediate_size": "expert_shared_feed_forward_length",
    "norm_eps": "attention.layer_norm_epsilon",
    "moe_intermediate_size": "expert_feed_forward_length",
    "shared_expert_intermediate_size": "expert_shared_feed_forward_length",
    "num_hidden_layers": "block_count",
    "hidden_size": "embedding_length",
    "intermediate_size": "feed_forward_length",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "layer_norm_eps": "attention.layer_norm_epsilon",
    "norm_epsilon": "attention.layer_norm_epsilon",
    "logit_scale": "logit_scale",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
    "max_position_embeddings": "context_length",
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
    "attention_multiplier": "attention.scale",
    "embedding_multiplier": "embedding_scale",
    "residual_multiplier": "residual_scale",
    "logits_scaling": "logit_scale",
}
WITH_WINDOW = (
    *("gemma2", "gemma3_text", "gpt_oss", "olmo3", "exaone4", "phi3", "cohere2"),
    *("afmoe", "exaone_moe"),
)
ATTENDS = ("attention", "full_attention")
WITH_PATTERN = ("olmo3", "exaone4", "exaone_moe")


def arch_of(config: Mapping[str, Any]) -> str:
    """What llama.cpp calls the architecture."""
    return ARCHITECTURES.get(config["model_type"], config["model_type"])


def metadata_of(config: Mapping[str, Any]) -> dict[str, Any]:
    fields = {key: config.get(name) for name, key in KEYS.items() if config.get(name) is not None}
    fields |= _windows(config) | _rope(config) | _recurrent(config) | _latent(config)
    if config["model_type"] in ("gpt_oss", "minimax_m2", "hunyuan_v1_moe"):
        fields["expert_feed_forward_length"] = config["intermediate_size"]
    arch = arch_of(config)
    return {f"{arch}.{key}": value for key, value in fields.items()} | {
        "tokenizer.ggml.tokens": [str(i) for i in range(int(config["vocab_size"]))],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
    }


def _windows(config: Mapping[str, Any]) -> dict[str, Any]:
    kind, window = config["model_type"], config.get("sliding_window")
    if kind == "phi3":
        return {"attention.sliding_window": window or 0}
    if kind not in WITH_WINDOW or window is None:
        return {}
    pattern = [kind == "sliding_attention" for kind in config["layer_types"]]
    found = {"attention.sliding_window": window}
    return found | ({"attention.sliding_window_pattern": pattern} if kind in WITH_PATTERN else {})


def _rope(config: Mapping[str, Any]) -> dict[str, Any]:
    rope = config.get("rope_parameters") or {}
    rope = rope.get("full_attention", rope)
    fields = {"rope.freq_base": float(rope.get("rope_theta", 10_000.0))}
    if "partial_rotary_factor" in rope or config["model_type"] == "phi3":
        rotary = int(_head_dim(config) * rope.get("partial_rotary_factor", 1.0))
        fields["rope.dimension_count"] = rotary
    if rope.get("rope_type") in ("linear", "yarn"):
        fields["rope.scaling.type"] = rope["rope_type"]
        fields["rope.scaling.factor"] = float(rope["factor"])
    original = rope.get("original_max_position_embeddings")
    original = original or config.get("original_max_position_embeddings")
    if original and rope.get("rope_type") != "llama3":
        fields["rope.scaling.original_context_length"] = original
    if "llama_4_scaling_beta" in rope:
        fields["attention.temperature_scale"] = rope["llama_4_scaling_beta"]
        fields["rope.scaling.yarn_log_multiplier"] = rope.get("mscale_all_dim", 1.0)
    if "qk_rope_head_dim" in config:
        fields["rope.dimension_count"] = config["qk_rope_head_dim"]
    if "mscale" in rope and "qk_rope_head_dim" in config:
        fields["rope.scaling.yarn_log_multiplier"] = 0.1 * rope["mscale_all_dim"]
    if "long_factor" in rope:
        stretch = config["max_position_embeddings"] / original
        attention = math.sqrt(1 + math.log(stretch) / math.log(original))
        fields["rope.scaling.attn_factor"] = attention
    return fields


def _recurrent(config: Mapping[str, Any]) -> dict[str, Any]:
    if config["model_type"] == "granitemoehybrid":
        heads = config["num_key_value_heads"]
        kinds = config["layer_types"]
        return {
            "ssm.inner_size": config["mamba_expand"] * config["hidden_size"],
            "attention.head_count_kv": [heads * (kind in ATTENDS) for kind in kinds],
            "rope.scaling.finetuned": False,
            "context_length": 1 << 20,
        }
    if config["model_type"].startswith("lfm2"):
        heads, kinds = config["num_key_value_heads"], config["layer_types"]
        gating = {"expert_gating_func": 2} if config["model_type"] == "lfm2_moe" else {}
        return gating | {
            "attention.head_count_kv": [heads * (kind in ATTENDS) for kind in kinds],
            "attention.layer_norm_epsilon": None,
            "attention.layer_norm_rms_epsilon": config["norm_eps"],
        }
    if "linear_num_value_heads" not in config:
        return {}
    size = config["linear_value_head_dim"] * config["linear_num_value_heads"]
    return {"ssm.inner_size": size, "full_attention_interval": 4}


def _latent(config: Mapping[str, Any]) -> dict[str, Any]:
    """Keys are shared by all heads, so that a head has two sizes of them."""
    if "kv_lora_rank" not in config:
        return {}
    rank, rotated = config["kv_lora_rank"], config["qk_rope_head_dim"]
    gating = {"expert_gating_func": 2} if config["model_type"] == "deepseek_v3" else {}
    return gating | {
        "attention.q_lora_rank": config["q_lora_rank"],
        "attention.kv_lora_rank": rank,
        "attention.head_count_kv": 1,
        "attention.key_length": rank + rotated,
        "attention.value_length": rank,
        "attention.key_length_mla": config["qk_nope_head_dim"] + rotated,
        "attention.value_length_mla": config["v_head_dim"],
    }


def _head_dim(config: Mapping[str, Any]) -> int:
    return config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]


def add_metadata(writer: GGUFWriter, fields: Mapping[str, object]) -> None:
    for key, value in fields.items():
        if isinstance(value, str):
            writer.add_string(key, value)
        elif isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        elif isinstance(value, list):
            writer.add_array(key, value)
        elif value is not None:
            writer.add_uint32(key, value)
