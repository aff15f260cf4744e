"""Tiny random checkpoints of every supported model type, written by transformers itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    Mistral4ForCausalLM,
    PreTrainedModel,
)

from tests.newer_toys import GRANITE, NEWER
from tests.toy_shapes import (
    COMMON,
    EXPERTS,
    GATED,
    LATENT,
    MAX_POSITIONS,
    VOCAB_SIZE,
    WINDOW,
    YARN,
)

__all__ = ["MAX_POSITIONS", "VOCAB_SIZE", "WINDOW"]

DENSE_TYPES = ("llama", "mistral", "qwen2", "qwen3", "phi3", "gemma2", "gemma3_text", "opt")
MIXTURE_TYPES = ("mixtral", "qwen3_moe", "qwen2_moe", "olmoe", "gpt_oss", "glm4_moe", "deepseek_v3")
KINDRED_MIXTURES = (
    *("deepseek_v2", "ernie4_5_moe", "granitemoe"),
    *("mistral4", "minimax_m2", "glm4_moe_lite", "llama4_text"),
    *("hunyuan_v1_moe", "dots1", "solar_open"),
    *("afmoe", "flex_olmo", "exaone_moe", "phimoe"),
)
RECURRENT_MIXTURES = (
    "qwen3_next",
    "qwen3_5_moe_text",
    "granitemoehybrid",
    "nemotron_h",
    "lfm2_moe",
)
RECURRENT_TYPES = ("qwen3_5_text", "lfm2", *RECURRENT_MIXTURES)
# Made of what those have: whatever does not compute a layer takes them as it takes others.
KINDRED_TYPES = (
    *("smollm3", "olmo2", "olmo3", "granite", "glm", "glm4"),
    *("exaone4", "ernie4_5", "seed_oss", "gemma"),
    *("ministral3", "cohere", "cohere2", "arcee", "nemotron", "starcoder2", "stablelm"),
    *("hunyuan_v1_dense", "gemma4_text", "ministral", "apertus"),
    *KINDRED_MIXTURES,
)
MODEL_TYPES = (*DENSE_TYPES, *MIXTURE_TYPES)
EVERY_TYPE = (*MODEL_TYPES, *KINDRED_TYPES, *RECURRENT_TYPES)
_GEMMA = {"query_pre_attn_scalar": 24, "sliding_window": WINDOW, "tie_word_embeddings": True}
UNSTRETCHED = {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}
_RECURRENT = {
    **GATED,
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
    **EXPERTS,
    "num_experts": 5,
    "moe_intermediate_size": 48,
    "shared_expert_intermediate_size": 72,
}
_BY_TYPE: dict[str, dict[str, Any]] = {
    "llama": GATED,
    "mistral": {**GATED, "sliding_window": WINDOW},
    "qwen2": {
        **GATED,
        "use_sliding_window": True,
        "sliding_window": WINDOW,
        "max_window_layers": 1,
    },
    "qwen3": GATED,
    "phi3": {**GATED, "sliding_window": WINDOW, "original_max_position_embeddings": MAX_POSITIONS},
    "gemma2": {**GATED, **_GEMMA},
    "gemma3_text": {**GATED, **_GEMMA, "sliding_window_pattern": 3, "num_hidden_layers": 4},
    "mixtral": {**GATED, **EXPERTS, "num_local_experts": 5},
    "qwen3_moe": {**GATED, **EXPERTS, "num_experts": 5, "moe_intermediate_size": 48},
    "gpt_oss": {
        **GATED,
        **EXPERTS,
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
        **GATED,
        **EXPERTS,
        "num_experts": 5,
        "moe_intermediate_size": 48,
        "shared_expert_intermediate_size": 72,
    },
    "olmoe": {**GATED, **EXPERTS, "num_experts": 5, "norm_topk_prob": True},
    "glm4_moe": {
        **GATED,
        **EXPERTS,
        "n_routed_experts": 6,
        "moe_intermediate_size": 48,
        "first_k_dense_replace": 1,
        "routed_scaling_factor": 1.7,
        "n_group": 3,
        "topk_group": 2,
        "use_qk_norm": True,
    },
    "smollm3": {**GATED, "no_rope_layers": [1, 0, 1]},
    "olmo2": GATED,
    "olmo3": {
        **GATED,
        "sliding_window": WINDOW,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    },
    "granite": {**GATED, **GRANITE},
    "glm": GATED,
    "glm4": GATED,
    "exaone4": {
        **GATED,
        "sliding_window": WINDOW,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    },
    "ernie4_5": GATED,
    "deepseek_v3": {
        **LATENT,
        "first_k_dense_replace": 1,
        "n_group": 3,
        "topk_group": 2,
        "rope_parameters": {**YARN, "mscale": 0.7, "mscale_all_dim": 1.3},
    },
    "deepseek_v2": {
        **LATENT,
        "q_lora_rank": None,
        "v_head_dim": 40,
        "first_k_dense_replace": 1,
        "routed_scaling_factor": 1.3,
    },
    "ernie4_5_moe": {
        **GATED,
        "moe_k": 2,
        "moe_num_experts": 5,
        "moe_intermediate_size": 48,
        "moe_num_shared_experts": 1,
    },
    "granitemoe": {**GATED, **EXPERTS, **GRANITE, "num_local_experts": 5},
    "seed_oss": GATED,
    "gemma": {**GATED, "tie_word_embeddings": True},
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
    model = _class_of(model_type)._from_config(config, dtype=torch.float32)
    randomize(model, seed)
    shard = max_shard_bytes if max_shard_bytes is not None else "1GB"
    model.to(dtype).save_pretrained(folder, max_shard_size=shard)
    return folder


def toy_fields(model_type: str) -> dict[str, Any]:
    """What the Hugging Face config of a toy says."""
    return {**COMMON, **{**_BY_TYPE, **NEWER}[model_type]}


def load_oracle(folder: Path, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """The same checkpoint in transformers, computing in `dtype`."""
    model_type = json.loads((folder / "config.json").read_text())["model_type"]
    model = _class_of(model_type).from_pretrained(
        folder, dtype=dtype, attn_implementation="eager", local_files_only=True
    )
    return model.eval()


def _class_of(model_type: str) -> type[PreTrainedModel]:
    """AutoModelForCausalLM knows the class of every type but one."""
    if model_type == "mistral4":
        return Mistral4ForCausalLM
    return MODEL_FOR_CAUSAL_LM_MAPPING[CONFIG_MAPPING[model_type]]


@torch.no_grad()
def randomize(model: PreTrainedModel, seed: int) -> None:
    """Give every parameter values that matter: no trivial norms or biases, separated logits."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(model.named_parameters()):
        parameter.copy_(_values(name, parameter, generator))
    for name, buffer in sorted(model.named_buffers()):
        if name.endswith(("_correction_bias", "expert_bias", "layer_scalar")):
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
