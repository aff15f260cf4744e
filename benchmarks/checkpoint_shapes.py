"""Shapes of random-weight checkpoints: their tensors, and the `config.json` that goes with them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

DTYPES = {
    "bf16": ("BF16", torch.bfloat16),
    "fp16": ("F16", torch.float16),
    "fp32": ("F32", torch.float32),
}


@dataclass(frozen=True)
class Shape:
    """The sizes of one Llama- or Mixtral-shaped model, and the file size at which it is split."""

    hidden: int
    layers: int
    intermediate: int
    heads: int
    kv_heads: int
    vocab: int
    rope_theta: float
    shard_bytes: int
    damping: float = 1.0  # of what layers after the first add
    experts: int = 1  # MLPs of a layer
    experts_per_token: int = 1


PRESETS = {
    "tiny": Shape(256, 4, 688, 8, 2, 1024, 1e4, 2 * 10**6),
    "0.25b": Shape(1024, 16, 2816, 16, 4, 32000, 1e4, 10**9),
    "1.1b": Shape(2048, 22, 5632, 32, 4, 32000, 1e4, 10**9),
    "moe-2.4b": Shape(2048, 12, 3584, 16, 4, 32000, 1e6, 10**9, experts=8, experts_per_token=2),
    "7b": Shape(4096, 32, 11008, 32, 32, 32000, 1e4, 5 * 10**9),
    "8b": Shape(4096, 32, 14336, 32, 8, 128256, 5e5, 5 * 10**9),
    "13b": Shape(5120, 40, 13824, 40, 40, 32000, 1e4, 5 * 10**9),
    "30b": Shape(6656, 60, 17920, 52, 52, 32000, 1e4, 5 * 10**9),
}


@dataclass(frozen=True)
class Tensor:
    """One weight: `std` 0 stands for the all-ones weight of a norm."""

    name: str
    shape: tuple[int, ...]
    std: float

    @property
    def elements(self) -> int:
        """The number of values."""
        return math.prod(self.shape)


def tensors_of(shape: Shape) -> Iterator[Tensor]:
    """All weights in the order of the model's state dict.

    Projections keep unit variance (1 / sqrt(fan-in)); those that write into the residual stream
    are divided by sqrt(2 * layers), as in GPT-2, so that depth does not add variance.
    """
    hidden = shape.hidden
    yield Tensor("model.embed_tokens.weight", (shape.vocab, hidden), 1.0)
    for layer in range(shape.layers):
        damping = shape.damping if layer else 1.0
        yield from _layer_tensors(shape, f"model.layers.{layer}", damping)
    yield Tensor("model.norm.weight", (hidden,), 0.0)
    yield Tensor("lm_head.weight", (shape.vocab, hidden), hidden**-0.5)


def _layer_tensors(shape: Shape, prefix: str, damping: float) -> Iterator[Tensor]:
    hidden = shape.hidden
    kv_width = hidden // shape.heads * shape.kv_heads
    std, out_std = hidden**-0.5, damping * (2 * shape.layers * hidden) ** -0.5
    yield Tensor(f"{prefix}.self_attn.q_proj.weight", (hidden, hidden), std)
    yield Tensor(f"{prefix}.self_attn.k_proj.weight", (kv_width, hidden), std)
    yield Tensor(f"{prefix}.self_attn.v_proj.weight", (kv_width, hidden), std)
    yield Tensor(f"{prefix}.self_attn.o_proj.weight", (hidden, hidden), out_std)
    if shape.experts > 1:
        yield from _expert_tensors(shape, f"{prefix}.block_sparse_moe", damping)
    else:
        names = "gate_proj", "up_proj", "down_proj"
        yield from _mlp_tensors(shape, f"{prefix}.mlp", names, damping)
    yield Tensor(f"{prefix}.input_layernorm.weight", (hidden,), 0.0)
    yield Tensor(f"{prefix}.post_attention_layernorm.weight", (hidden,), 0.0)


def _expert_tensors(shape: Shape, prefix: str, damping: float) -> Iterator[Tensor]:
    yield Tensor(f"{prefix}.gate.weight", (shape.experts, shape.hidden), shape.hidden**-0.5)
    for expert in range(shape.experts):
        names = "w1", "w3", "w2"
        yield from _mlp_tensors(shape, f"{prefix}.experts.{expert}", names, damping)


def _mlp_tensors(
    shape: Shape, prefix: str, names: tuple[str, str, str], damping: float
) -> Iterator[Tensor]:
    hidden, inner = shape.hidden, shape.intermediate
    gate, up, down = names
    yield Tensor(f"{prefix}.{gate}.weight", (inner, hidden), hidden**-0.5)
    yield Tensor(f"{prefix}.{up}.weight", (inner, hidden), hidden**-0.5)
    down_std = damping * (2 * shape.layers * inner) ** -0.5
    yield Tensor(f"{prefix}.{down}.weight", (hidden, inner), down_std)


def model_config(shape: Shape, dtype: str) -> dict[str, object]:
    """The `config.json` that transformers, llama.cpp and lm_offload read."""
    return {
        **_kind_fields(shape),
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "head_dim": shape.hidden // shape.heads,
        "hidden_act": "silu",
        "hidden_size": shape.hidden,
        "initializer_range": 0.02,
        "intermediate_size": shape.intermediate,
        "max_position_embeddings": 8192,
        "mlp_bias": False,
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.layers,
        "num_key_value_heads": shape.kv_heads,
        "pretraining_tp": 1,
        "rms_norm_eps": 1e-5,
        "rope_scaling": None,
        "rope_theta": shape.rope_theta,
        "tie_word_embeddings": False,
        "torch_dtype": str(DTYPES[dtype][1]).removeprefix("torch."),
        "use_cache": True,
        "vocab_size": shape.vocab,
    }


def _kind_fields(shape: Shape) -> dict[str, object]:
    if shape.experts == 1:
        return {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
    return {
        "architectures": ["MixtralForCausalLM"],
        "model_type": "mixtral",
        "num_local_experts": shape.experts,
        "num_experts_per_tok": shape.experts_per_token,
        "sliding_window": None,
    }
