"""Tensor names and shapes of the Llama family, Phi-3 and Gemma as Hugging Face writes them."""

from __future__ import annotations

from lm_offload.arch.shapes import ModelConfig
from lm_offload.arch.weight_spec import WeightSpec

TOKENS = "model.embed_tokens.weight"


def embed_weights(config: ModelConfig) -> tuple[WeightSpec, ...]:
    """The table of token embeddings."""
    return (WeightSpec(TOKENS, "tokens", (config.vocab_size, config.hidden_size)),)


def attention_weights(config: ModelConfig, layer: int) -> tuple[WeightSpec, ...]:
    """Input norm, projections, and the norms of heads and output where the model has them."""
    prefix = f"model.layers.{layer}"
    specs = [norm_spec(f"{prefix}.input_layernorm", "input_norm", config.hidden_size)]
    specs += _projections(config, f"{prefix}.self_attn")
    if config.qk_norm:
        for role in ("q_norm", "k_norm"):
            specs.append(norm_spec(f"{prefix}.self_attn.{role}", role, config.head_dim))
    if config.attention_sinks:
        specs.append(WeightSpec(f"{prefix}.self_attn.sinks", "sinks", (config.num_heads,)))
    if config.post_norms:
        name = f"{prefix}.post_attention_layernorm"
        specs.append(norm_spec(name, "post_norm", config.hidden_size))
    return tuple(specs)


def mlp_weights(config: ModelConfig, layer: int) -> tuple[WeightSpec, ...]:
    """The norm of what the MLP reads, its matrices, and the norm of what it adds."""
    prefix, hidden = f"model.layers.{layer}", config.hidden_size
    if not config.post_norms:
        specs = [norm_spec(f"{prefix}.post_attention_layernorm", "input_norm", hidden)]
        return tuple(specs + _mlp_matrices(config, f"{prefix}.mlp"))
    specs = [
        norm_spec(f"{prefix}.pre_feedforward_layernorm", "input_norm", hidden),
        norm_spec(f"{prefix}.post_feedforward_layernorm", "post_norm", hidden),
    ]
    return tuple(specs + _mlp_matrices(config, f"{prefix}.mlp"))


def final_norm_weights(config: ModelConfig) -> tuple[WeightSpec, ...]:
    """The norm before the head."""
    return (norm_spec("model.norm", "norm", config.hidden_size),)


def norm_spec(name: str, role: str, size: int) -> WeightSpec:
    """The scale of an RMS norm."""
    return WeightSpec(f"{name}.weight", role, (size,))


def linear_specs(name: str, role: str, shape: tuple[int, int], bias: bool) -> list[WeightSpec]:
    """A matrix [out, in] and its bias; the role of the bias ends in `_bias` instead of `_proj`."""
    specs = [WeightSpec(f"{name}.weight", role, shape)]
    if bias:
        specs.append(WeightSpec(f"{name}.bias", role.removesuffix("_proj") + "_bias", shape[:1]))
    return specs


def _projections(config: ModelConfig, prefix: str) -> list[WeightSpec]:
    hidden, queries, kv = config.hidden_size, config.query_size, config.kv_size
    output = linear_specs(f"{prefix}.o_proj", "o_proj", (hidden, queries), config.output_bias)
    if config.fused_projections:
        fused = (queries + 2 * kv, hidden)
        return linear_specs(f"{prefix}.qkv_proj", "qkv_proj", fused, config.qkv_bias) + output
    specs = []
    for role, size in (("q_proj", queries), ("k_proj", kv), ("v_proj", kv)):
        specs += linear_specs(f"{prefix}.{role}", role, (size, hidden), config.qkv_bias)
    return specs + output


def _mlp_matrices(config: ModelConfig, prefix: str) -> list[WeightSpec]:
    hidden, inner, bias = config.hidden_size, config.intermediate_size, config.mlp_bias
    down = linear_specs(f"{prefix}.down_proj", "down_proj", (hidden, inner), bias)
    if config.fused_projections:
        shape = (2 * inner, hidden)
        return linear_specs(f"{prefix}.gate_up_proj", "gate_up_proj", shape, bias) + down
    gate = linear_specs(f"{prefix}.gate_proj", "gate_proj", (inner, hidden), bias)
    return gate + linear_specs(f"{prefix}.up_proj", "up_proj", (inner, hidden), bias) + down
