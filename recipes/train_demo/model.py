"""Llama's forward pass for training: a function of a dict of tensors under HF's names."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

Parameters = dict[str, Tensor]


@dataclass(frozen=True)
class DemoConfig:
    """Shape of the demo model; the defaults are what is shipped (9.2 M parameters)."""

    vocab_size: int = 4096
    hidden_size: int = 384
    num_hidden_layers: int = 6
    num_attention_heads: int = 6
    num_key_value_heads: int = 2
    head_dim: int = 64
    intermediate_size: int = 768
    rope_theta: float = 10000.0
    rms_norm_eps: float = 1e-5
    max_position_embeddings: int = 2048


def init_parameters(config: DemoConfig) -> Parameters:
    """Draw initial weights; what writes to the residual stream starts at zero."""
    return {name: _init_one(name, shape) for name, shape in parameter_shapes(config).items()}


def parameter_shapes(config: DemoConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all weights; the output head is the embedding (tied)."""
    hidden = config.hidden_size
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (config.vocab_size, hidden),
        "model.norm.weight": (hidden,),
    }
    for layer in range(config.num_hidden_layers):
        for name, shape in _layer_shapes(config).items():
            shapes[f"model.layers.{layer}.{name}.weight"] = shape
    return shapes


def _layer_shapes(config: DemoConfig) -> dict[str, tuple[int, ...]]:
    hidden, inner = config.hidden_size, config.intermediate_size
    q_width = config.num_attention_heads * config.head_dim
    kv_width = config.num_key_value_heads * config.head_dim
    return {
        "input_layernorm": (hidden,),
        "self_attn.q_proj": (q_width, hidden),
        "self_attn.k_proj": (kv_width, hidden),
        "self_attn.v_proj": (kv_width, hidden),
        "self_attn.o_proj": (hidden, q_width),
        "post_attention_layernorm": (hidden,),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }


def _init_one(name: str, shape: tuple[int, ...]) -> Tensor:
    if len(shape) == 1:
        return torch.ones(shape)
    if "o_proj" in name or "down_proj" in name:
        return torch.zeros(shape)
    return torch.randn(shape) * (0.02 if "embed" in name else shape[1] ** -0.5)


def forward(parameters: Parameters, tokens: Tensor, config: DemoConfig) -> Tensor:
    """Logits of shape (batch, length, vocab) for token ids of shape (batch, length)."""
    embedding = parameters["model.embed_tokens.weight"]
    hidden = F.embedding(tokens, embedding)
    rotation = _rotation(tokens.shape[1], config)
    for layer in range(config.num_hidden_layers):
        prefix = f"model.layers.{layer}."
        hidden = hidden + _attention(parameters, prefix, hidden, rotation, config)
        hidden = hidden + _mlp(parameters, prefix, hidden, config)
    return F.linear(_norm(hidden, parameters["model.norm.weight"], config), embedding)


def _attention(
    parameters: Parameters,
    prefix: str,
    hidden: Tensor,
    rotation: tuple[Tensor, Tensor],
    config: DemoConfig,
) -> Tensor:
    normed = _norm(hidden, parameters[f"{prefix}input_layernorm.weight"], config)
    q, k, v = (
        F.linear(normed, parameters[f"{prefix}self_attn.{part}_proj.weight"])
        .unflatten(-1, (-1, config.head_dim))
        .transpose(1, 2)
        for part in "qkv"
    )
    groups = config.num_attention_heads // config.num_key_value_heads
    k, v = _rotate(k, rotation).repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    mixed = F.scaled_dot_product_attention(_rotate(q, rotation), k, v, is_causal=True)
    output = mixed.transpose(1, 2).flatten(2)
    return F.linear(output, parameters[f"{prefix}self_attn.o_proj.weight"])


def _mlp(parameters: Parameters, prefix: str, hidden: Tensor, config: DemoConfig) -> Tensor:
    normed = _norm(hidden, parameters[f"{prefix}post_attention_layernorm.weight"], config)
    gate = F.linear(normed, parameters[f"{prefix}mlp.gate_proj.weight"])
    up = F.linear(normed, parameters[f"{prefix}mlp.up_proj.weight"])
    return F.linear(F.silu(gate) * up, parameters[f"{prefix}mlp.down_proj.weight"])


def _norm(hidden: Tensor, weight: Tensor, config: DemoConfig) -> Tensor:
    return F.rms_norm(hidden, weight.shape, weight, config.rms_norm_eps)


def _rotation(length: int, config: DemoConfig) -> tuple[Tensor, Tensor]:
    half = torch.arange(0, config.head_dim, 2, dtype=torch.float32) / config.head_dim
    angles = torch.outer(torch.arange(length, dtype=torch.float32), config.rope_theta**-half)
    return angles.cos(), angles.sin()


def _rotate(heads: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    cos, sin = rotation
    first, second = heads.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
