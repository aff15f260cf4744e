"""Tensor names and shapes of routers and experts as Hugging Face writes them."""

from __future__ import annotations

from typing import NamedTuple

from lm_offload.arch.layout import norm_spec
from lm_offload.arch.shapes import ModelConfig
from lm_offload.arch.weight_spec import ROUTER, SHARED_GATE, WeightSpec


class _Names(NamedTuple):
    """What a model type calls the block of a layer, and the matrices of an expert by role."""

    block: str
    matrices: dict[str, str]


_USUAL = _Names("mlp", {role: role for role in ("gate_proj", "up_proj", "down_proj")})
_MIXTRAL = _Names("block_sparse_moe", {"gate_proj": "w1", "up_proj": "w3", "down_proj": "w2"})
_NAMES = {"mixtral": _MIXTRAL}


def router_name(model_type: str, layer: int | str) -> str:
    """Of the matrix that scores the experts of a layer."""
    return f"model.layers.{layer}.{_names(model_type).block}.gate.weight"


def expert_name(model_type: str, layer: int | str, expert: int, role: str) -> str:
    """Of one matrix of an expert: gate_proj, up_proj or down_proj."""
    names = _names(model_type)
    return f"model.layers.{layer}.{names.block}.experts.{expert}.{names.matrices[role]}.weight"


def router_weights(config: ModelConfig, layer: int) -> tuple[WeightSpec, ...]:
    """The norm of what the experts read, the matrix that scores them, and a shared expert."""
    prefix, hidden = f"model.layers.{layer}", config.hidden_size
    return (
        norm_spec(f"{prefix}.post_attention_layernorm", "input_norm", hidden),
        WeightSpec(router_name(config.model_type, layer), ROUTER, (config.num_experts, hidden)),
        *(_shared_weights(config, f"{prefix}.mlp") if config.shared_size else ()),
    )


def expert_weights(config: ModelConfig, layer: int, expert: int) -> tuple[WeightSpec, ...]:
    """The three matrices of one expert."""
    return tuple(
        WeightSpec(expert_name(config.model_type, layer, expert, role), role, shape)
        for role, shape in _shapes(config, config.intermediate_size).items()
    )


def _shared_weights(config: ModelConfig, prefix: str) -> tuple[WeightSpec, ...]:
    """The matrices of the expert that every token uses, and the one that scores it."""
    matrices = (
        WeightSpec(f"{prefix}.shared_expert.{role}.weight", role, shape)
        for role, shape in _shapes(config, config.shared_size).items()
    )
    gate = f"{prefix}.shared_expert_gate.weight"
    return (*matrices, WeightSpec(gate, SHARED_GATE, (1, config.hidden_size)))


def _shapes(config: ModelConfig, narrow: int) -> dict[str, tuple[int, int]]:
    wide = config.hidden_size
    return {"gate_proj": (narrow, wide), "up_proj": (narrow, wide), "down_proj": (wide, narrow)}


def _names(model_type: str) -> _Names:
    return _NAMES.get(model_type, _USUAL)
