"""Keys of the architectures with layer norms, or with an MLP of two matrices.

What llama.cpp computes and does not say in the file is that of its `src/models/*.cpp`.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from lm_offload.arch.fields import Fields
from lm_offload.foreign.gguf_names import QUERY_BIAS, UP_BIAS
from lm_offload.foreign.gguf_rope import Shapes, short_decimal
from lm_offload.foreign.gguf_windows import windows


def command_r(fields: Fields, shapes: Shapes, tensors: Collection[str]) -> dict[str, Any]:
    """Command R: rows are as Hugging Face has them."""
    norms = {"use_qk_norm": "blk.0.attn_q_norm.weight" in tensors}
    return {"model_type": "cohere", **_cohere(fields, shapes, tensors), **norms}


def cohere2(fields: Fields, shapes: Shapes, tensors: Collection[str]) -> dict[str, Any]:
    """Command R7B and Command A: every fourth layer has no window."""
    layers = windows(fields, shapes["num_hidden_layers"], 4)
    return {"model_type": "cohere2", **_cohere(fields, shapes, tensors), **layers}


def starcoder2(fields: Fields, shapes: Shapes, tensors: Collection[str]) -> dict[str, Any]:
    """StarCoder 2, whose window is not written as GGUF."""
    return {
        "model_type": "starcoder2",
        "norm_epsilon": shapes["rms_norm_eps"],
        "use_bias": QUERY_BIAS in tensors,
    }


def arcee(fields: Fields, shapes: Shapes, tensors: Collection[str]) -> dict[str, Any]:
    """AFM."""
    biases = {"attention_bias": QUERY_BIAS in tensors, "mlp_bias": UP_BIAS in tensors}
    return {"model_type": "arcee", **biases}


def nemotron(fields: Fields, shapes: Shapes, tensors: Collection[str]) -> dict[str, Any]:
    """Nemotron 3, 4 and Minitron."""
    biases = {"attention_bias": QUERY_BIAS in tensors, "mlp_bias": UP_BIAS in tensors}
    return {"model_type": "nemotron", "norm_eps": shapes["rms_norm_eps"], **biases}


def stablelm(fields: Fields, shapes: Shapes, tensors: Collection[str]) -> dict[str, Any]:
    """StableLM."""
    return {
        "model_type": "stablelm",
        "layer_norm_eps": shapes["rms_norm_eps"],
        "use_parallel_residual": fields.flag("use_parallel_residual", False),
        "use_qkv_bias": QUERY_BIAS in tensors,
    }


def _cohere(fields: Fields, shapes: Shapes, tensors: Collection[str]) -> dict[str, Any]:
    return {
        "layer_norm_eps": shapes["rms_norm_eps"],
        "logit_scale": short_decimal(fields.number("logit_scale")),
        "attention_bias": QUERY_BIAS in tensors,
    }
