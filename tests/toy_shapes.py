"""What toys of several model types have in common in their Hugging Face configs."""

from __future__ import annotations

from typing import Any

WINDOW = 11
VOCAB_SIZE = 131
MAX_POSITIONS = 256

COMMON: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "max_position_embeddings": MAX_POSITIONS,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
}
GATED = {"intermediate_size": 88, "num_key_value_heads": 2, "head_dim": 16}
EXPERTS = {"num_experts_per_tok": 2}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 64,
}
TEMPERED = {**YARN, "original_max_position_embeddings": 16, "llama_4_scaling_beta": 0.3}
LATENT = {
    **EXPERTS,
    "intermediate_size": 88,
    "moe_intermediate_size": 48,
    "n_routed_experts": 6,
    "num_key_value_heads": 4,
    "q_lora_rank": 64,
    "kv_lora_rank": 64,
    "qk_rope_head_dim": 32,
    "qk_nope_head_dim": 24,
    "v_head_dim": 16,
}
