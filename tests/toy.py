"""Tiny random checkpoints of every supported model type, written by transformers itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

DENSE_TYPES = ("llama", "mistral", "qwen2", "qwen3", "phi3", "gemma2", "gemma3_text", "opt")
MIXTURE_TYPES = ("mixtral", "qwen3_moe", "qwen2_moe", "olmoe", "gpt_oss", "glm4_moe", "deepseek_v3")
RECURRENT_MIXTURES = ("qwen3_next", "qwen3_5_moe_text")
RECURRENT_TYPES = ("qwen3_5_text", *RECURRENT_MIXTURES)
KINDRED_MIXTURES = ("deepseek_v2", "ernie4_5_moe", "granitemoe")
# Made of what those have: whatever does not compute a layer takes them as it takes others.
KINDRED_TYPES = (
    *("smollm3", "olmo2", "olmo3", "granite", "glm", "glm4"),
    *("exaone4", "ernie4_5", "seed_oss", "gemma"),
    *KINDRED_MIXTURES,
)
MODEL_TYPES = (*DENSE_TYPES, *MIXTURE_TYPES)
EVERY_TYPE = (*MODEL_TYPES, *KINDRED_TYPES, *RECURRENT_TYPES)
WINDOW = 11
VOCAB_SIZE = 131
MAX_POSITIONS = 256

_COMMON: dict[str, Any] = {
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
_GATED = {"intermediate_size": 88, "num_key_value_heads": 2, "head_dim": 16}
_EXPERTS = {"num_experts_per_tok": 2}
_GEMMA = {"query_pre_attn_scalar": 24, "sliding_window": WINDOW, "tie_word_embeddings": True}
_GRANITE = {
    "embedding_multiplier": 6.0,
    "residual_multiplier": 0.4,
    "attention_multiplier": 0.2,
    "logits_scaling": 1.7,
}
_YARN = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 64,
}
UNSTRETCHED = {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}
_LATENT = {
    **_EXPERTS,
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
_RECURRENT = {
    **_GATED,
    "num_hidden_layers": 4,
    "layer_types": ["linear_attention", "linear_attention", "full_attention", "linear_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 12,
    "linear_value_head_dim": 16,
    "rms_norm_eps": 1e-2,  # or norms of small outputs make rounding large, on either side
    "partial_rotary_factor": 0.5,
}
_RECURRENT_MIXTURE = {
    **_RECURRENT,
    **_EXPERTS,
    "num_experts": 5,
    "moe_intermediate_size": 48,
    "shared_expert_intermediate_size": 72,
}
_BY_TYPE: dict[str, dict[str, Any]] = {
    "llama": _GATED,
    "mistral": {**_GATED, "sliding_window": WINDOW},
    "qwen2": {
        **_GATED,
        "use_sliding_window": True,
        "sliding_window": WINDOW,
        "max_window_layers": 1,
    },
    "qwen3": _GATED,
    "phi3": {**_GATED, "sliding_window": WINDOW, "original_max_position_embeddings": MAX_POSITIONS},
    "gemma2": {**_GATED, **_GEMMA},
    "gemma3_text": {**_GATED, **_GEMMA, "sliding_window_pattern": 3, "num_hidden_layers": 4},
    "mixtral": {**_GATED, **_EXPERTS, "num_local_experts": 5},
    "qwen3_moe": {**_GATED, **_EXPERTS, "num_experts": 5, "moe_intermediate_size": 48},
    "gpt_oss": {
        **_GATED,
        **_EXPERTS,
        "num_local_experts": 5,
        "intermediate_size": 48,
        "sliding_window": WINDOW,
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": 150000.0,
            "factor": 4.0,
            "truncate": False,
            "original_max_position_embeddings": 64,
        },
    },
    "qwen2_moe": {
        **_GATED,
        **_EXPERTS,
        "num_experts": 5,
        "moe_intermediate_size": 48,
        "shared_expert_intermediate_size": 72,
    },
    "olmoe": {**_GATED, **_EXPERTS, "num_experts": 5, "norm_topk_prob": True},
    "glm4_moe": {
        **_GATED,
        **_EXPERTS,
        "n_routed_experts": 6,
        "moe_intermediate_size": 48,
        "first_k_dense_replace": 1,
        "routed_scaling_factor": 1.7,
        "n_group": 3,
        "topk_group": 2,
        "use_qk_norm": True,
    },
    "smollm3": {**_GATED, "no_rope_layers": [1, 0, 1]},
    "olmo2": _GATED,
    "olmo3": {
        **_GATED,
        "sliding_window": WINDOW,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    },
    "granite": {**_GATED, **_GRANITE},
    "glm": _GATED,
    "glm4": _GATED,
    "exaone4": {
        **_GATED,
        "sliding_window": WINDOW,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    },
    "ernie4_5": _GATED,
    "deepseek_v3": {
        **_LATENT,
        "first_k_dense_replace": 1,
        "n_group": 3,
        "topk_group": 2,
        "rope_parameters": {**_YARN, "mscale": 0.7, "mscale_all_dim": 1.3},
    },
    "deepseek_v2": {
        **_LATENT,
        "q_lora_rank": None,
        "v_head_dim": 40,
        "first_k_dense_replace": 1,
        "routed_scaling_factor": 1.3,
    },
    "ernie4_5_moe": {
        **_GATED,
        "moe_k": 2,
        "moe_num_experts": 5,
        "moe_intermediate_size": 48,
        "moe_num_shared_experts": 1,
    },
    "granitemoe": {**_GATED, **_EXPERTS, **_GRANITE, "num_local_experts": 5},
    "seed_oss": _GATED,
    "gemma": {**_GATED, "tie_word_embeddings": True},
    "qwen3_next": _RECURRENT_MIXTURE,
    "qwen3_5_text": _RECURRENT,
    "qwen3_5_moe_text": _RECURRENT_MIXTURE,
    "opt": {"ffn_dim": 88, "word_embed_proj_dim": 64, "tie_word_embeddings": True},
}


def make_toy_checkpoint(
    folder: Path,
    model_type: str,
    *,
    dtype: torch.dtype = torch.float32,
    max_shard_bytes: int | None = None,
    seed: int = 0,
    **overrides: Any,
) -> Path:
    """Write a random checkpoint in Hugging Face layout and return its folder.

    `overrides` are fields of the Hugging Face config (`num_hidden_layers=2`,
    `rope_parameters={...}`, `tie_word_embeddings=True`). `max_shard_bytes` splits the weights
    into several files. The same arguments give the same bytes.
    """
    fields = {**toy_fields(model_type), **overrides}
    config = AutoConfig.for_model(model_type, **fields)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    randomize(model, seed)
    shard = max_shard_bytes if max_shard_bytes is not None else "1GB"
    model.to(dtype).save_pretrained(folder, max_shard_size=shard)
    return folder


def with_single_experts(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors with stacked experts as matrices [out, in] of their own."""
    found: dict[str, Tensor] = {}
    turned = any(name.endswith("gate_up_proj_bias") for name in tensors)  # gpt-oss
    for name, tensor in tensors.items():
        if "_linear.weight" in name:
            found |= _granite_experts(name, tensor)
            continue
        block, dot, stack = name.rpartition(".experts.")
        if not dot or stack[0].isdigit():
            found[name] = tensor
            continue
        kind = "bias" if stack.endswith("_bias") else "weight"
        roles = ("gate", "up") if stack.startswith("gate_up") else ("down",)
        for expert, rows in enumerate(
            tensor.transpose(1, 2) if turned and kind != "bias" else tensor
        ):
            for turn, role in enumerate(roles):
                own = f"{block}.experts.{expert}.{role}_proj.{kind}"
                parts = rows[turn :: len(roles)] if turned else rows.chunk(len(roles))[turn]
                found[own] = parts.contiguous()
    return found


def _granite_experts(name: str, stack: Tensor) -> dict[str, Tensor]:
    block, _, kind = name.removesuffix("_linear.weight").rpartition(".")
    roles = ("gate", "up") if kind == "input" else ("down",)
    return {
        f"{block}.experts.{expert}.{role}_proj.weight": matrix.contiguous()
        for expert, matrices in enumerate(stack)
        for role, matrix in zip(roles, matrices.chunk(len(roles)), strict=True)
    }


def toy_fields(model_type: str) -> dict[str, Any]:
    """What the Hugging Face config of a toy says."""
    return {**_COMMON, **_BY_TYPE[model_type]}


def load_oracle(folder: Path, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """The same checkpoint in transformers, computing in `dtype`."""
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, attn_implementation="eager", local_files_only=True
    )
    return model.eval()


@torch.no_grad()
def randomize(model: PreTrainedModel, seed: int) -> None:
    """Give every parameter values that matter: no trivial norms or biases, separated logits."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(model.named_parameters()):
        parameter.copy_(_values(name, parameter, generator))
    for name, buffer in sorted(model.named_buffers()):
        if name.endswith("e_score_correction_bias"):
            buffer.copy_(_values(name, buffer, generator))


def _values(name: str, parameter: Tensor, generator: torch.Generator) -> Tensor:
    noise = torch.randn(parameter.shape, generator=generator)
    if name.endswith("A_log"):
        return noise - 3.0  # states that last for some dozen tokens
    if parameter.dim() == 1:
        return _trivial(name, parameter) + 0.2 * noise
    if "lm_head" in name:
        return 0.4 * noise
    if "embed" in name:
        return 0.2 * noise  # small, or a tied head would only repeat the token it reads
    is_convolution = parameter.shape[1] == 1
    return 1.6 * noise / parameter.shape[-1 if is_convolution else 1] ** 0.5


def _trivial(name: str, parameter: Tensor) -> float:
    if name.endswith("bias"):
        return 0.0
    if bool((parameter == 0).all()):  # Gemma adds one to its norm weights
        return 2.0 if ".post_" in name else 0.0  # loud blocks, for the same reason as above
    return 1.0
