"""The text model inside a checkpoint that takes images, too: of its config that part is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lm_offload.arch.fields import Fields

# What the text part of a config leaves out, by the model type of the whole.
_LEFT_OUT: Mapping[str, Mapping[str, Any]] = {
    "gemma3": {"model_type": "gemma3_text", "vocab_size": 262_208, "num_attention_heads": 8},
    "mistral3": {"model_type": "mistral"},
    "qwen3_5": {"model_type": "qwen3_5_text"},
    "qwen3_5_moe": {"model_type": "qwen3_5_moe_text"},
}
# What counts for the text model if the whole says it.
_OF_THE_WHOLE = ("dtype", "torch_dtype", "bos_token_id", "eos_token_id", "tie_word_embeddings")


def text_part(fields: Fields) -> Fields:
    """The config of the text model; all of it where there is nothing else.

    Raises CheckpointError where a config has no such part.
    """
    left_out = _LEFT_OUT.get(fields.text("model_type"))
    if left_out is None:
        return fields
    section = fields.section("text_config")
    if section is None:
        raise fields.wrong("text_config", "an object with the shapes of the text model")
    whole = {key: fields.raw[key] for key in _OF_THE_WHOLE if key in fields.raw}
    return Fields({**left_out, **section.raw, **whole}, section.where)
