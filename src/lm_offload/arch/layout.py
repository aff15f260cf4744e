"""Tensor names and shapes of most model types as Hugging Face writes them."""

from __future__ import annotations

from lm_offload.arch.layer_names import layer_names
from lm_offload.arch.layout_latent import latent_projections
from lm_offload.arch.shapes import LayerConfig, ModelConfig
from lm_offload.arch.weight_spec import (
    ATTENTION_GATE,
    XIELU,
    WeightSpec,
    linear_specs,
    norm_spec,
    stacked_mlp,
)

TOKENS = "model.embed_tokens.weight"


def embed_weights(config: ModelConfig) -> tuple[WeightSpec, ...]:
    """The table of token embeddings, and what inputs of single layers are made of."""
    tokens = WeightSpec(TOKENS, "tokens", (config.vocab_size, config.hidden_size))
    return (tokens, *(_layer_inputs(config) if config.layer_input_size else []))


def _layer_inputs(config: ModelConfig) -> list[WeightSpec]:
    """Of all layers together: a table, and what is made of the embedding."""
    size, rows = config.layer_inputs_size, config.layer_vocab_size
    table = WeightSpec("model.embed_tokens_per_layer.weight", "layer_tokens", (rows, size))
    name, shape = "model.per_layer_model_projection", (size, config.hidden_size)
    norm = norm_spec("model.per_layer_projection_norm", "inputs_norm", config.layer_input_size)
    return [table, *linear_specs(name, "inputs_proj", shape, bias=False), norm]


def _reads_layer_input(config: ModelConfig, prefix: str) -> list[WeightSpec]:
    """What a layer adds of its own input, once its MLP has been added."""
    hidden, size = config.hidden_size, config.layer_input_size
    gate, made = f"{prefix}.per_layer_input_gate", f"{prefix}.per_layer_projection"
    return [
        *linear_specs(gate, "input_gate", (size, hidden), bias=False),
        *linear_specs(made, "input_proj", (hidden, size), bias=False),
        norm_spec(f"{prefix}.post_per_layer_input_norm", "added_norm", hidden),
    ]


def attention_weights(config: ModelConfig, layer: int) -> tuple[WeightSpec, ...]:
    """Input norm, projections, and the norms of heads and output where the model has them."""
    prefix, names = f"model.layers.{layer}", layer_names(config)
    specs = _block_norm(config, prefix, names.attention_reads, "input_norm")
    if config.latent:
        specs += latent_projections(config, config.latent, f"{prefix}.self_attn")
    else:
        specs += _projections(config, f"{prefix}.self_attn", config.layers[layer])
    specs += _head_norms(config, f"{prefix}.self_attn", config.layers[layer])
    if config.attention_sinks:
        specs.append(WeightSpec(f"{prefix}.self_attn.sinks", "sinks", (config.num_heads,)))
    specs += _block_norm(config, prefix, names.attention_adds, "post_norm")
    return tuple(specs + (_mlp_matrices(config, f"{prefix}.mlp") if config.parallel else []))


def mlp_weights(config: ModelConfig, layer: int) -> tuple[WeightSpec, ...]:
    """The norm of what the MLP reads, its matrices, and the norm of what it adds."""
    prefix, names = f"model.layers.{layer}", layer_names(config)
    specs = _block_norm(config, prefix, names.mlp_reads, "input_norm")
    specs += _block_norm(config, prefix, names.mlp_adds, "post_norm")
    specs += _reads_layer_input(config, prefix) if config.layer_input_size else []
    if config.layer_scales:
        specs.append(WeightSpec(f"{prefix}.layer_scalar", "layer_scale", (1,)))
    return tuple(specs + _mlp_matrices(config, f"{prefix}.{names.mlp}"))


def final_norm_weights(config: ModelConfig) -> tuple[WeightSpec, ...]:
    """The norm before the head."""
    return tuple(_norm(config, f"model.{layer_names(config).final_norm}", "norm"))


def _block_norm(config: ModelConfig, prefix: str, name: str | None, role: str) -> list[WeightSpec]:
    return _norm(config, f"{prefix}.{name}", role) if name else []


def _norm(config: ModelConfig, name: str, role: str) -> list[WeightSpec]:
    """The scales of a norm of hidden states, and its biases where it has them."""
    specs = [norm_spec(name, role, config.hidden_size)]
    if config.norm_biases:
        specs.append(WeightSpec(f"{name}.bias", f"{role}_bias", (config.hidden_size,)))
    return specs


def _head_norms(config: ModelConfig, prefix: str, layer: LayerConfig) -> list[WeightSpec]:
    """Of queries and of keys that the layer makes, by head or all heads together."""
    if not (config.qk_norm or config.qk_norm_whole):
        return []
    if config.layer_norms:
        return _scales_of_heads(config, prefix)
    roles = ("q_norm", "k_norm") if layer.kv_of is None else ("q_norm",)
    names = layer_names(config).q_norm, layer_names(config).k_norm
    whole = (config.query_size, config.kv_size)
    sizes = whole if config.qk_norm_whole else (config.head_dim,) * 2
    return [
        norm_spec(f"{prefix}.{name}", role, size)
        for name, role, size in zip(names, roles, sizes, strict=False)
    ]


def _scales_of_heads(config: ModelConfig, prefix: str) -> list[WeightSpec]:
    """Scales of each head of its own."""
    heads = {"q_norm": config.num_heads, "k_norm": config.num_kv_heads}
    return [
        WeightSpec(f"{prefix}.{role}.weight", role, (count, config.head_dim))
        for role, count in heads.items()
    ]


def _projections(config: ModelConfig, prefix: str, layer: LayerConfig) -> list[WeightSpec]:
    hidden, queries, kv = config.hidden_size, config.query_size, config.kv_size
    name = f"{prefix}.{layer_names(config).output}"
    output = linear_specs(name, "o_proj", (hidden, queries), config.output_bias)
    if config.fused_qkv:
        fused = (queries + 2 * kv, hidden)
        return linear_specs(f"{prefix}.qkv_proj", "qkv_proj", fused, config.qkv_bias) + output
    specs = []
    asked = 2 * queries if config.attention_gate and not config.gate_apart else queries
    sizes = {"q_proj": asked} if layer.kv_of is not None else {"q_proj": asked, "k_proj": kv}
    if layer.kv_of is None and not layer.values_of_keys:
        sizes["v_proj"] = kv
    for role, size in sizes.items():
        specs += linear_specs(f"{prefix}.{role}", role, (size, hidden), config.qkv_bias)
    if config.gate_apart:
        specs += linear_specs(f"{prefix}.gate_proj", ATTENTION_GATE, (queries, hidden), bias=False)
    return specs + output


def _mlp_matrices(config: ModelConfig, prefix: str) -> list[WeightSpec]:
    hidden, bias = config.hidden_size, config.mlp_bias
    inner = config.dense_size or config.intermediate_size
    if not config.gated:
        return _plain_matrices(config, prefix)
    if config.model_type == "granitemoehybrid":
        return stacked_mlp(prefix, hidden, inner)
    names = layer_names(config)
    down = linear_specs(f"{prefix}.{names.down}", "down_proj", (hidden, inner), bias)
    if config.fused_gate_up:
        shape = (2 * inner, hidden)
        return linear_specs(f"{prefix}.gate_up_proj", "gate_up_proj", shape, bias) + down
    gate = linear_specs(f"{prefix}.{names.gate}", "gate_proj", (inner, hidden), bias)
    return gate + linear_specs(f"{prefix}.{names.up}", "up_proj", (inner, hidden), bias) + down


def _plain_matrices(config: ModelConfig, prefix: str) -> list[WeightSpec]:
    hidden, inner, bias = config.hidden_size, config.intermediate_size, config.mlp_bias
    names = layer_names(config)
    specs = linear_specs(f"{prefix}.{names.up}", "up_proj", (inner, hidden), bias)
    specs += linear_specs(f"{prefix}.{names.down}", "down_proj", (hidden, inner), bias)
    if config.activation == "xielu":
        specs += [WeightSpec(f"{prefix}.act_fn.{role}", role, (1,)) for role in XIELU]
    return specs


def added_norm_weights(config: ModelConfig, layer: int) -> tuple[WeightSpec, ...]:
    """The norm of what an MLP adds, alone: of what experts add together."""
    name = layer_names(config).mlp_adds
    return tuple(_block_norm(config, f"model.layers.{layer}", name, "post_norm"))
