"""Keys of the architectures without experts.

What llama.cpp computes and does not say in the file is that of its `src/models/*.cpp`.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from lm_offload.arch.fields import Fields
from lm_offload.foreign.gguf_names import QUERY_BIAS, UP_BIAS
from lm_offload.foreign.gguf_rope import TEMPERATURE, Shapes, short_decimal
from lm_offload.foreign.gguf_windows import WINDOW, windows


def qwen2(fields: Fields, shapes: Shapes, tensors: Collection[str]) -> dict[str, Any]:
    """Qwen 2 and 2.5, whose windows are not written as GGUF."""
    return _without_experts(fields, "qwen2")


def qwen3(fields: Fields, shapes: Shapes, tensors: Collection[str]) -> dict[str, Any]:
    """Qwen 3."""
    return _without_experts(fields, "qwen3")


def phi3(fields: Fields, shapes: Shapes, tensors: Collection[str]) -> dict[str, Any]:
    """Phi 3 and 4; a window of 0 is none."""
    key, longest = "rope.scaling.original_context_length", shapes["max_position_embeddings"]
    return _without_experts(fields, "phi3") | {
        "sliding_window": fields.integer(WINDOW, 0, minimum=0) or None,
        "original_max_position_embeddings": fields.integer(key, longest, minimum=2),
    }


def gemma(fields: Fields, shapes: Shapes, tensors: Collection[str]) -> dict[str, Any]:
    """Gemma 1."""
    return {"model_type": "gemma"}


def gemma2(fields: Fields, shapes: Shapes, tensors: Collection[str]) -> dict[str, Any]:
    """Gemma 2: softcaps, a window in every second layer."""
    fields = Fields({WINDOW: 4096, **fields.raw}, fields.where)
    return {
        "model_type": "gemma2",
        "query_pre_attn_scalar": _query_scalar(shapes, layers_of_27b=46),
        "attn_logit_softcapping": fields.number("attn_logit_softcapping", 50.0),
        "final_logit_softcapping": fields.number("final_logit_softcapping", 30.0),
        **windows(fields, shapes["num_hidden_layers"], 2),
    }


def gemma3(fields: Fields, shapes: Shapes, tensors: Collection[str]) -> dict[str, Any]:
    """Gemma 3: a window in five of six layers, which have a rope of their own."""
    return {
        "model_type": "gemma3_text",
        "query_pre_attn_scalar": _query_scalar(shapes, layers_of_27b=62),
        "rope_local_base_freq": short_decimal(
            fields.number("rope.freq_base_swa", 10_000.0, above=1)
        ),
        "final_logit_softcapping": fields.optional_number("final_logit_softcapping"),
        **windows(fields, shapes["num_hidden_layers"], 6),
    }


def olmo2(fields: Fields, shapes: Shapes, tensors: Collection[str]) -> dict[str, Any]:
    """OLMo 2, and OLMo 3, which has windows."""
    if fields.get(WINDOW) in (None, 0):
        return {"model_type": "olmo2"}
    return {"model_type": "olmo3", **windows(fields, shapes["num_hidden_layers"], 4)}


def exaone4(fields: Fields, shapes: Shapes, tensors: Collection[str]) -> dict[str, Any]:
    """EXAONE 4; the small ones have no window."""
    fields.must_be("nextn_predict_layers", 0)
    return {"model_type": "exaone4", **windows(fields, shapes["num_hidden_layers"], 4)}


def smollm3(fields: Fields, shapes: Shapes, tensors: Collection[str]) -> dict[str, Any]:
    """SmolLM 3: which layers are not rotated is not written, it is every fourth one."""
    return {
        "model_type": "smollm3",
        "no_rope_layer_interval": 4,
        "attention_bias": QUERY_BIAS in tensors,
        "mlp_bias": UP_BIAS in tensors,
    }


def granite(fields: Fields, shapes: Shapes, tensors: Collection[str]) -> dict[str, Any]:
    """Granite 3: multipliers; no head size of its own."""
    fields.must_be("rope.scaling.finetuned", True)  # false where positions are not rotated
    return _without_experts(fields, "granite") | multiplied(fields, shapes, tensors)


def multiplied(fields: Fields, shapes: Shapes, tensors: Collection[str]) -> dict[str, Any]:
    """What all of Granite's types multiply with, and whether they have biases."""
    return {
        "attention_multiplier": _scale(fields, "attention.scale", shapes["head_dim"] ** -0.5),
        "embedding_multiplier": _scale(fields, "embedding_scale"),
        "residual_multiplier": _scale(fields, "residual_scale"),
        "logits_scaling": _scale(fields, "logit_scale"),
        "attention_bias": QUERY_BIAS in tensors,
        "mlp_bias": UP_BIAS in tensors,
    }


def glm4(fields: Fields, shapes: Shapes, tensors: Collection[str]) -> dict[str, Any]:
    """GLM-4 of 2025: rows are as Hugging Face has them but for models that see."""
    fields.must_be("rope.dimension_sections")
    fields.must_be("nextn_predict_layers", 0)
    return {"model_type": "glm4", "attention_bias": QUERY_BIAS in tensors}


def ernie4_5(fields: Fields, shapes: Shapes, tensors: Collection[str]) -> dict[str, Any]:
    """ERNIE 4.5, dense: rows are as Hugging Face has them."""
    return {"model_type": "ernie4_5", "use_bias": QUERY_BIAS in tensors}


def hunyuan_dense(fields: Fields, shapes: Shapes, tensors: Collection[str]) -> dict[str, Any]:
    """Hunyuan, dense; how its rope is stretched is in the base."""
    return {"model_type": "hunyuan_v1_dense", "attention_bias": QUERY_BIAS in tensors}


def mistral3(fields: Fields, shapes: Shapes, tensors: Collection[str]) -> dict[str, Any]:
    """Ministral 3; Mistral Small 3, which is Llama and has no temperature."""
    has_temperature = fields.get(TEMPERATURE) is not None
    window = {"sliding_window": fields.integer(WINDOW, 0, minimum=0) or None}
    return window | _without_experts(fields, "ministral3" if has_temperature else "mistral")


def seed_oss(fields: Fields, shapes: Shapes, tensors: Collection[str]) -> dict[str, Any]:
    """Seed-OSS."""
    return {
        "model_type": "seed_oss",
        "attention_bias": QUERY_BIAS in tensors,
        "attention_out_bias": "blk.0.attn_output.bias" in tensors,
    }


def _without_experts(fields: Fields, model_type: str) -> dict[str, Any]:
    fields.must_be("expert_count", 0)
    return {"model_type": model_type}


def _query_scalar(shapes: Shapes, layers_of_27b: int) -> int:
    """Queries are divided by its root: the head size, but for the 27B models."""
    if shapes["num_hidden_layers"] == layers_of_27b:
        return max(int(shapes["hidden_size"]) // int(shapes["num_attention_heads"]), 1)
    return int(shapes["head_dim"])


def _scale(fields: Fields, key: str, default: float = 1.0) -> float:
    return short_decimal(fields.number(key, default))
