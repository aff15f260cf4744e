"""Tensor names and shapes of Mixtral's router and experts as Hugging Face writes them."""

from __future__ import annotations

from lm_offload.arch.layout import norm_spec
from lm_offload.arch.shapes import ModelConfig
from lm_offload.arch.weight_spec import WeightSpec


def router_weights(config: ModelConfig, layer: int) -> tuple[WeightSpec, ...]:
    """The norm of what the experts read, and the matrix that scores them."""
    prefix, hidden = f"model.layers.{layer}", config.hidden_size
    return (
        norm_spec(f"{prefix}.post_attention_layernorm", "input_norm", hidden),
        WeightSpec(
            f"{prefix}.block_sparse_moe.gate.weight", "router", (config.num_experts, hidden)
        ),
    )


def expert_weights(config: ModelConfig, layer: int, expert: int) -> tuple[WeightSpec, ...]:
    """The three matrices of one expert."""
    prefix = f"model.layers.{layer}.block_sparse_moe.experts.{expert}"
    hidden, inner = config.hidden_size, config.intermediate_size
    return (
        WeightSpec(f"{prefix}.w1.weight", "gate_proj", (inner, hidden)),
        WeightSpec(f"{prefix}.w3.weight", "up_proj", (inner, hidden)),
        WeightSpec(f"{prefix}.w2.weight", "down_proj", (hidden, inner)),
    )
