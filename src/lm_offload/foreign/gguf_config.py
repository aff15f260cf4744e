"""The config of a model from the metadata of its GGUF file, as a `config.json` would say it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from lm_offload.arch.common import MAX_LAYERS
from lm_offload.arch.fields import Fields
from lm_offload.errors import CheckpointError, UnsupportedModelError
from lm_offload.foreign.gguf_architectures import ARCHITECTURES
from lm_offload.foreign.gguf_header import GGUFHeader, LongArray
from lm_offload.foreign.gguf_rope import RopeFactors, rope_config, short_decimal

_PER_LAYER = ("feed_forward_length", "attention.head_count", "attention.head_count_kv")


def gguf_config(header: GGUFHeader, where: str, rope_factors: RopeFactors) -> dict[str, Any]:
    """Shapes and constants in the words of Hugging Face.

    `rope_factors` divide the frequencies of the rope (Llama 3.1 and Phi 3 have some). Raises
    CheckpointError for metadata that is missing or wrong, UnsupportedModelError for another
    architecture or for what it does not do here.
    """
    whole = Fields(header.metadata, where)
    arch = whole.text("general.architecture")
    if arch not in ARCHITECTURES:
        raise UnsupportedModelError(
            f"{where} has the architecture {arch!r}, supported as GGUF are "
            f"{', '.join(ARCHITECTURES)}; take the Hugging Face checkpoint of this model."
        )
    fields = _fields_of(arch, header.metadata, where)
    config = _shapes(fields, whole, header)
    config |= ARCHITECTURES[arch].config(fields, config, header.tensors.keys())
    return config | rope_config(fields, config, rope_factors) | _tokens(whole)


def _fields_of(arch: str, metadata: Mapping[str, Any], where: str) -> Fields:
    """What the file says of the architecture, numbers of all layers once."""
    prefix = f"{arch}."
    raw = {k.removeprefix(prefix): v for k, v in metadata.items() if k.startswith(prefix)}
    skipped = {0} if ARCHITECTURES[arch].hybrid else set()
    common = {key: _common(key, value, skipped) for key, value in raw.items()}
    return Fields(common, f"{where}, {arch}")


def _common(key: str, value: Any, skipped: Collection[int]) -> Any:
    """A number of all layers, which some files repeat for each of them."""
    if key not in _PER_LAYER or not isinstance(value, list):
        return value
    numbers = {*value} - {*skipped}
    return numbers.pop() if len(numbers) == 1 else value


def _shapes(fields: Fields, whole: Fields, header: GGUFHeader) -> dict[str, Any]:
    heads = fields.integer("attention.head_count")
    hidden = fields.integer("embedding_length")
    return {
        "vocab_size": _vocab_size(whole, header),
        "hidden_size": hidden,
        "intermediate_size": _intermediate_size(fields),
        "num_hidden_layers": _layers(fields),
        "num_attention_heads": heads,
        "num_key_value_heads": fields.integer("attention.head_count_kv", heads),
        "head_dim": fields.integer("attention.key_length", max(hidden // heads, 1)),
        "max_position_embeddings": fields.integer("context_length", minimum=2),
        "rms_norm_eps": short_decimal(_norm_epsilon(fields)),
        "tie_word_embeddings": "output.weight" not in header.tensors,
    }


def _layers(fields: Fields) -> int:
    """Without those behind the last one, which guess further tokens."""
    count = fields.integer("block_count", maximum=MAX_LAYERS)
    guessing = fields.integer("nextn_predict_layers", 0, minimum=0)
    if guessing >= count:
        raise fields.wrong("nextn_predict_layers", f"less than block_count={count}")
    return count - guessing


def _norm_epsilon(fields: Fields) -> float:
    """Of norms that take the mean away it has another name."""
    layer_norm = "attention.layer_norm_epsilon"
    is_layer_norm = fields.get(layer_norm) is not None
    return fields.number(layer_norm if is_layer_norm else "attention.layer_norm_rms_epsilon")


def _intermediate_size(fields: Fields) -> int:
    """A file of a mixture may say how wide its experts are and nothing else."""
    if fields.get("feed_forward_length") in (None, 0) and fields.get("expert_feed_forward_length"):
        return fields.integer("expert_feed_forward_length")
    return fields.integer("feed_forward_length")


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


def _tokens(whole: Fields) -> dict[str, Any]:
    ends = [
        whole.integer(key, minimum=0)
        for key in ("tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id")
        if whole.get(key) is not None
    ]
    begins = whole.get("tokenizer.ggml.bos_token_id")
    return {"bos_token_id": begins, "eos_token_id": sorted(set(ends)) or None}
