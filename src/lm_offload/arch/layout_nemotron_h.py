"""Tensor names and shapes of Nemotron-H: a layer is one norm and one mixer, of several kinds."""

from __future__ import annotations

from lm_offload.arch.shapes import ModelConfig
from lm_offload.arch.weight_spec import WeightSpec, linear_specs, norm_spec

TOKENS = "model.embeddings.weight"


def embed_weights(config: ModelConfig) -> tuple[WeightSpec, ...]:
    """The table of token embeddings."""
    return (WeightSpec(TOKENS, "tokens", (config.vocab_size, config.hidden_size)),)


def attention_weights(config: ModelConfig, layer: int) -> tuple[WeightSpec, ...]:
    """Of a layer that attends."""
    hidden, queries, kv = config.hidden_size, config.query_size, config.kv_size
    shapes = {
        "q_proj": (queries, hidden),
        "k_proj": (kv, hidden),
        "v_proj": (kv, hidden),
        "o_proj": (hidden, queries),
    }
    return _block(config, layer, shapes)


def mlp_weights(config: ModelConfig, layer: int) -> tuple[WeightSpec, ...]:
    """Of a layer that is an MLP."""
    hidden, inner = config.hidden_size, config.dense_size or config.intermediate_size
    return _block(config, layer, {"up_proj": (inner, hidden), "down_proj": (hidden, inner)})


def sum_weights(config: ModelConfig, layer: int) -> tuple[WeightSpec, ...]:
    """What makes of the sum of all experts, which are narrow, what is added."""
    name = f"model.layers.{layer}.mixer.fc2_latent_proj"
    shape = config.hidden_size, config.narrowed_size
    return tuple(linear_specs(name, "widen_proj", shape, bias=False))


def final_norm_weights(config: ModelConfig) -> tuple[WeightSpec, ...]:
    """The norm before the head."""
    return (norm_spec("model.norm_f", "norm", config.hidden_size),)


def _block(
    config: ModelConfig, layer: int, shapes: dict[str, tuple[int, int]]
) -> tuple[WeightSpec, ...]:
    """The norm of a layer, and matrices by role."""
    prefix = f"model.layers.{layer}"
    specs = [norm_spec(f"{prefix}.norm", "input_norm", config.hidden_size)]
    for role, shape in shapes.items():
        specs += linear_specs(f"{prefix}.mixer.{role}", role, shape, bias=False)
    return tuple(specs)
