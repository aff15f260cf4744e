"""Tensor names and shapes of OPT as Hugging Face writes them."""

from __future__ import annotations

from lm_offload.arch.shapes import ModelConfig
from lm_offload.arch.weight_spec import WeightSpec, linear_specs

POSITION_OFFSET = 2  # the first rows of the position table belong to padding

_PREFIX = "model.decoder"
TOKENS = f"{_PREFIX}.embed_tokens.weight"


def embed_weights(config: ModelConfig) -> tuple[WeightSpec, ...]:
    """Token and position tables, and the projection between them where their widths differ."""
    hidden, narrow = config.hidden_size, config.embed_size
    positions = config.max_positions + POSITION_OFFSET
    tables = (
        WeightSpec(TOKENS, "tokens", (config.vocab_size, narrow)),
        WeightSpec(f"{_PREFIX}.embed_positions.weight", "positions", (positions, hidden)),
    )
    if narrow == hidden:
        return tables
    return (*tables, WeightSpec(f"{_PREFIX}.project_in.weight", "project_in", (hidden, narrow)))


def attention_weights(config: ModelConfig, layer: int) -> tuple[WeightSpec, ...]:
    """The layer norm and the four projections."""
    prefix, hidden = f"{_PREFIX}.layers.{layer}", config.hidden_size
    specs = _layer_norm(f"{prefix}.self_attn_layer_norm", hidden)
    for role in ("q_proj", "k_proj", "v_proj"):
        name = f"{prefix}.self_attn.{role}"
        specs += linear_specs(name, role, (hidden, hidden), config.qkv_bias)
    name = f"{prefix}.self_attn.out_proj"
    return tuple(specs + linear_specs(name, "o_proj", (hidden, hidden), config.output_bias))


def mlp_weights(config: ModelConfig, layer: int) -> tuple[WeightSpec, ...]:
    """The layer norm and the two matrices."""
    prefix = f"{_PREFIX}.layers.{layer}"
    hidden, inner = config.hidden_size, config.intermediate_size
    specs = _layer_norm(f"{prefix}.final_layer_norm", hidden)
    specs += linear_specs(f"{prefix}.fc1", "up_proj", (inner, hidden), config.mlp_bias)
    specs += linear_specs(f"{prefix}.fc2", "down_proj", (hidden, inner), config.mlp_bias)
    return tuple(specs)


def final_norm_weights(config: ModelConfig) -> tuple[WeightSpec, ...]:
    """The last layer norm and the projection to the head's width, where the model has them."""
    hidden, narrow = config.hidden_size, config.embed_size
    specs = _layer_norm(f"{_PREFIX}.final_layer_norm", hidden) if config.final_norm else []
    if narrow != hidden:
        specs.append(WeightSpec(f"{_PREFIX}.project_out.weight", "project_out", (narrow, hidden)))
    return tuple(specs)


def _layer_norm(name: str, size: int) -> list[WeightSpec]:
    return [
        WeightSpec(f"{name}.weight", "norm", (size,)),
        WeightSpec(f"{name}.bias", "norm_bias", (size,)),
    ]
