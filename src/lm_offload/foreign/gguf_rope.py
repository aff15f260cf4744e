"""The rope of a GGUF file in the words of Hugging Face."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lm_offload.arch.fields import Fields
from lm_offload.errors import CheckpointError, UnsupportedModelError
from lm_offload.foreign.gguf_names import ROPE_FREQS, ROPE_LONG, ROPE_SHORT

Shapes = Mapping[str, Any]  # what a config has of every architecture, in Hugging Face's words
RopeFactors = Mapping[str, Sequence[float]]  # divisors of frequencies by the name of their tensor

TEMPERATURE = "attention.temperature_scale"  # by which queries grow with their position
# Types that may rotate some channels of a head.
_PARTLY = (
    *("phi3", "glm4", "glm4_moe", "minimax_m2", "nemotron", "stablelm"),
    *("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text"),
)


def rope_config(fields: Fields, config: Mapping[str, Any], factors: RopeFactors) -> dict[str, Any]:
    """Base, scaling and share of channels; `config` has model_type and head_dim.

    Raises CheckpointError for values that are wrong, UnsupportedModelError for a rope that is not
    computed here.
    """
    theta = {"rope_theta": short_decimal(fields.number("rope.freq_base", 10_000.0, above=1))}
    scaling = _scaling(fields, config, factors)
    return theta | _share(fields, config) | {"rope_scaling": scaling}


def short_decimal(value: float) -> float:
    """The decimal that somebody wrote before it became a float32."""
    return float(f"{value:.7g}")


def _share(fields: Fields, config: Mapping[str, Any]) -> dict[str, Any]:
    head_dim = config["head_dim"]
    rotary = fields.integer("rope.dimension_count", head_dim)
    if rotary == head_dim and config["model_type"] not in _PARTLY:
        return {}
    if rotary > head_dim or config["model_type"] not in _PARTLY:
        raise UnsupportedModelError(
            f"{fields.where} rotates {rotary} of {head_dim} channels of a head, "
            "supported as GGUF are all; take the Hugging Face checkpoint of this model."
        )
    return {"partial_rotary_factor": rotary / head_dim}


def _scaling(fields: Fields, config: Mapping[str, Any], factors: RopeFactors) -> dict[str, Any]:
    if ROPE_LONG in factors or ROPE_SHORT in factors:
        return _longrope(fields, config, factors)
    fields.must_be("rope.scaling.type", "none", "linear", "yarn")
    if ROPE_FREQS in factors:
        return _frequency_factors(factors[ROPE_FREQS])
    kind = fields.text("rope.scaling.type", "none")
    if kind == "none":
        return {"rope_type": "default"}
    scaling = {"rope_type": kind, "factor": short_decimal(fields.number("rope.scaling.factor"))}
    return scaling | (_yarn(fields, config["model_type"]) if kind == "yarn" else {})


def _yarn(fields: Fields, model_type: str) -> dict[str, Any]:
    """A factor of attention in a file multiplies that of the paper, which no model asks for.

    gpt-oss is the one whose ramp does not begin and end at whole frequencies; no file says so.
    """
    for key in ("attn_factor", "yarn_attn_factor", "yarn_ext_factor"):
        fields.must_be(f"rope.scaling.{key}", 1.0)
    return _weights(fields, model_type) | {
        "original_max_position_embeddings": _original_context(fields),
        "beta_fast": short_decimal(fields.number("rope.scaling.yarn_beta_fast", 32.0)),
        "beta_slow": short_decimal(fields.number("rope.scaling.yarn_beta_slow", 1.0)),
        "truncate": model_type != "gpt_oss",
    }


def _weights(fields: Fields, model_type: str) -> dict[str, Any]:
    """Those of a yarn, of which files have one; what Ministral 3 has besides."""
    if model_type in ("deepseek_v2", "deepseek_v3"):
        return _deepseek_weights(fields)
    if model_type != "ministral3":
        fields.must_be("rope.scaling.yarn_log_multiplier", 0.0)
        return {}
    weight = short_decimal(fields.number("rope.scaling.yarn_log_multiplier", 1.0))
    growth = short_decimal(fields.number(TEMPERATURE))
    return {"mscale": weight, "mscale_all_dim": weight, "llama_4_scaling_beta": growth}


def _deepseek_weights(fields: Fields) -> dict[str, Any]:
    """A tenth of it is what files of DeepSeek have."""
    if fields.get("rope.scaling.yarn_log_multiplier") is None:
        return {}
    weight = short_decimal(10 * fields.number("rope.scaling.yarn_log_multiplier"))
    return {"mscale": weight, "mscale_all_dim": weight}


def _longrope(fields: Fields, config: Mapping[str, Any], factors: RopeFactors) -> dict[str, Any]:
    """Factors for short and for long texts, as Phi 3 has them."""
    missing = [name for name in (ROPE_LONG, ROPE_SHORT) if name not in factors]
    if missing:
        raise CheckpointError(
            f"Tensor {missing[0]} is missing from {fields.where}, which has that of other lengths; "
            "download it again."
        )
    original = _original_context(fields)
    stretch = max(config["max_position_embeddings"] / original, 1.0)
    attention = math.sqrt(1 + math.log(stretch) / math.log(original))
    return {
        "rope_type": "longrope",
        "factor": stretch,
        "original_max_position_embeddings": original,
        "attention_factor": fields.number("rope.scaling.attn_factor", attention),
        "short_factor": list(factors[ROPE_SHORT]),
        "long_factor": list(factors[ROPE_LONG]),
    }


def _frequency_factors(factors: Sequence[float]) -> dict[str, Any]:
    """Given factors for each frequency are what longrope has, here the same for every length."""
    listed = list(factors)
    return {
        "rope_type": "longrope",
        "factor": 1.0,
        "attention_factor": 1.0,
        "short_factor": listed,
        "long_factor": listed,
    }


def _original_context(fields: Fields) -> int:
    return fields.integer("rope.scaling.original_context_length", minimum=2)
