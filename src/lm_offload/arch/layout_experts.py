"""Tensor names and shapes of routers and experts as Hugging Face writes them."""

from __future__ import annotations

from typing import NamedTuple

from lm_offload.arch.layout import norm_spec
from lm_offload.arch.shapes import ModelConfig
from lm_offload.arch.weight_spec import ROUTER, WeightSpec


class _Names(NamedTuple):
    """What a model type calls the block of a layer, and the matrices of an expert in it."""

    block: str
    gate: str
    up: str
    down: str


_USUAL = _Names("mlp", "gate_proj", "up_proj", "down_proj")
_NAMES = {"mixtral": _Names("block_sparse_moe", "w1", "w3", "w2")}


def router_weights(config: ModelConfig, layer: int) -> tuple[WeightSpec, ...]:
    """The norm of what the experts read, and the matrix that scores them."""
    prefix, hidden = f"model.layers.{layer}", config.hidden_size
    name = f"{prefix}.{_names(config).block}.gate.weight"
    return (
        norm_spec(f"{prefix}.post_attention_layernorm", "input_norm", hidden),
        WeightSpec(name, ROUTER, (config.num_experts, hidden)),
    )


def expert_weights(config: ModelConfig, layer: int, expert: int) -> tuple[WeightSpec, ...]:
    """The three matrices of one expert."""
    names, hidden, inner = _names(config), config.hidden_size, config.intermediate_size
    prefix = f"model.layers.{layer}.{names.block}.experts.{expert}"
    return (
        WeightSpec(f"{prefix}.{names.gate}.weight", "gate_proj", (inner, hidden)),
        WeightSpec(f"{prefix}.{names.up}.weight", "up_proj", (inner, hidden)),
        WeightSpec(f"{prefix}.{names.down}.weight", "down_proj", (hidden, inner)),
    )


def _names(config: ModelConfig) -> _Names:
    return _NAMES.get(config.model_type, _USUAL)
