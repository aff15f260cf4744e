"""The config of a model from the metadata of its GGUF file, as a `config.json` would say it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lm_offload.arch.fields import Fields
from lm_offload.errors import CheckpointError, UnsupportedModelError
from lm_offload.foreign.gguf_header import GGUFHeader, LongArray

ARCHITECTURES = ("llama", "qwen2", "qwen3", "qwen3moe")


def gguf_config(header: GGUFHeader, where: str, rope_factors: Sequence[float]) -> dict[str, Any]:
    """Shapes and constants of Llama, Mistral, Mixtral and Qwen in the words of Hugging Face.

    `rope_factors` divide the frequencies of the rope (Llama 3.1 has some). Raises CheckpointError
    for metadata that is missing or wrong, UnsupportedModelError for another architecture.
    """
    whole = Fields(header.metadata, where)
    arch = whole.text("general.architecture")
    if arch not in ARCHITECTURES:
        raise UnsupportedModelError(
            f"{where} has the architecture {arch!r}, supported as GGUF are "
            f"{', '.join(ARCHITECTURES)}; take the Hugging Face checkpoint of this model."
        )
    prefix = f"{arch}."
    fields = Fields(
        {k.removeprefix(prefix): v for k, v in header.metadata.items() if k.startswith(prefix)},
        f"{where}, {arch}",
    )
    config = _shapes(fields, whole, header)
    config |= _window(arch, fields) | _experts(arch, fields)
    config |= {"attention_bias": "blk.0.attn_q.bias" in header.tensors} if arch == "llama" else {}
    return config | _rope(fields, config, rope_factors) | _tokens(whole)


def _shapes(fields: Fields, whole: Fields, header: GGUFHeader) -> dict[str, Any]:
    heads = _common(fields, "attention.head_count")
    hidden = fields.integer("embedding_length")
    return {
        "vocab_size": _vocab_size(whole, header),
        "hidden_size": hidden,
        "intermediate_size": _common(fields, "feed_forward_length"),
        "num_hidden_layers": fields.integer("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": _common(fields, "attention.head_count_kv", heads),
        "head_dim": fields.integer("attention.key_length", max(hidden // heads, 1)),
        "max_position_embeddings": fields.integer("context_length", minimum=2),
        "rms_norm_eps": _short(fields.number("attention.layer_norm_rms_epsilon")),
        "tie_word_embeddings": "output.weight" not in header.tensors,
    }


def _common(fields: Fields, key: str, default: int | None = None) -> int:
    """A number of all layers, which some files repeat for each of them."""
    value = fields.get(key)
    if isinstance(value, list) and len(set(value)) == 1:
        fields = Fields({key: value[0]}, fields.where)
    return fields.integer(key) if default is None else fields.integer(key, default)


def _vocab_size(whole: Fields, header: GGUFHeader) -> int:
    """Rows of the embedding, which may be more than there are tokens."""
    table = header.tensors.get("token_embd.weight")
    if table is None:
        raise CheckpointError(
            f"Tensor token_embd.weight is missing from {whole.where}; download it again."
        )
    tokens = whole.get("tokenizer.ggml.tokens")
    count = tokens.length if isinstance(tokens, LongArray) else 0
    if count > table.shape[0]:
        raise CheckpointError(
            f"Tensor token_embd.weight of {whole.where} has {table.shape[0]} rows, its vocabulary "
            f"has {count} tokens; download it again."
        )
    return table.shape[0]


def _window(arch: str, fields: Fields) -> dict[str, Any]:
    """Mistral is a Llama with a window; others that have one are not written as GGUF."""
    if arch != "llama" or fields.get("attention.sliding_window") in (None, 0):
        return {"model_type": arch}
    window = fields.integer("attention.sliding_window")
    return {"model_type": "mistral", "sliding_window": window}


def _experts(arch: str, fields: Fields) -> dict[str, Any]:
    """Mixtral is a Llama with experts; a Qwen that has some scales them to one."""
    if fields.get("expert_count") in (None, 0):
        return {}
    count = fields.integer("expert_count", minimum=2)
    per_token = fields.integer("expert_used_count")
    if arch == "qwen3moe":
        return {
            "model_type": "qwen3_moe",
            "num_experts": count,
            "num_experts_per_tok": per_token,
            "moe_intermediate_size": fields.integer("expert_feed_forward_length"),
            "norm_topk_prob": True,
        }
    fields.must_be("attention.sliding_window", 0)
    if arch != "llama":
        fields.must_be("expert_count", 0)
    return {
        "model_type": "mixtral",
        "num_local_experts": count,
        "num_experts_per_tok": per_token,
        "sliding_window": None,
    }


def _rope(fields: Fields, config: Mapping[str, Any], factors: Sequence[float]) -> dict[str, Any]:
    rotary = fields.integer("rope.dimension_count", config["head_dim"])
    if rotary != config["head_dim"]:
        raise UnsupportedModelError(
            f"{fields.where} rotates {rotary} of {config['head_dim']} channels of a head, "
            "supported as GGUF are all; take the Hugging Face checkpoint of this model."
        )
    theta = {"rope_theta": _short(fields.number("rope.freq_base", 10_000.0, above=1))}
    fields.must_be("rope.scaling.type", "none", "linear", "yarn")
    kind = fields.text("rope.scaling.type", "none")
    if factors:
        return theta | {"rope_scaling": _frequency_factors(factors)}
    if kind == "none":
        return theta
    factor = _short(fields.number("rope.scaling.factor"))
    scaling: dict[str, Any] = {"rope_type": kind, "factor": factor}
    if kind == "yarn":
        original = fields.integer("rope.scaling.original_context_length", minimum=2)
        scaling["original_max_position_embeddings"] = original
    return theta | {"rope_scaling": scaling}


def _frequency_factors(factors: Sequence[float]) -> dict[str, Any]:
    """Given factors for each frequency are what longrope has, here the same for every length."""
    listed = list(factors)
    return {
        "rope_type": "longrope",
        "factor": 1.0,
        "attention_factor": 1.0,
        "short_factor": listed,
        "long_factor": listed,
    }


def _tokens(whole: Fields) -> dict[str, Any]:
    ends = [
        whole.integer(key, minimum=0)
        for key in ("tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id")
        if whole.get(key) is not None
    ]
    begins = whole.get("tokenizer.ggml.bos_token_id")
    return {"bos_token_id": begins, "eos_token_id": sorted(set(ends)) or None}


def _short(value: float) -> float:
    """The decimal that somebody wrote before it became a float32."""
    return float(f"{value:.7g}")
