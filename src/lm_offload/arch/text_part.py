"""The text model inside a checkpoint that takes images, too: of its config that part is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lm_offload.arch.fields import Fields


@dataclass(frozen=True)
class _Part:
    """What is known of the text model of a whole."""

    left_out: Mapping[str, Any] = field(default_factory=dict)  # keys that its config may lack
    model_type: str | None = None  # under which it is read; None: its own
    may_be_flat: bool = False  # older configs have no section of it


_QWEN_2 = {"rope_theta": 1e6, "num_key_value_heads": 8, "rms_norm_eps": 1e-5}
_QWEN_3 = {"rope_theta": 5e5, "max_position_embeddings": 128_000}
_QWEN_3_MOE = {"num_key_value_heads": 16, "norm_topk_prob": True}
_PARTS: Mapping[str, _Part] = {
    "gemma3": _Part({"model_type": "gemma3_text", "vocab_size": 262_208, "num_attention_heads": 8}),
    "gemma4": _Part({"model_type": "gemma4_text"}),
    "mistral3": _Part({"model_type": "mistral"}),
    "llama4": _Part({"model_type": "llama4_text"}),
    "qwen2_vl": _Part(_QWEN_2, "qwen2", may_be_flat=True),
    "qwen2_5_vl": _Part(_QWEN_2, "qwen2", may_be_flat=True),
    "qwen3_vl": _Part(_QWEN_3, "qwen3"),
    "qwen3_vl_moe": _Part({**_QWEN_3, **_QWEN_3_MOE}, "qwen3_moe"),
    "qwen3_5": _Part({"model_type": "qwen3_5_text"}),
    "qwen3_5_moe": _Part({"model_type": "qwen3_5_moe_text"}),
    "kimi_k25": _Part(model_type="deepseek_v3"),  # which its files call kimi_k2
}
# What counts for the text model if the whole says it.
_OF_THE_WHOLE = ("dtype", "torch_dtype", "bos_token_id", "eos_token_id", "tie_word_embeddings")
_ROPES = ("rope_scaling", "rope_parameters")


def text_part(fields: Fields) -> Fields:
    """The config of the text model; all of it where there is nothing else.

    Raises CheckpointError where a config has no such part.
    """
    part = _PARTS.get(fields.text("model_type"))
    if part is None:
        return fields
    section = fields.section("text_config")
    if section is None and part.may_be_flat:
        section = fields
    if section is None:
        raise fields.wrong("text_config", "an object with the shapes of the text model")
    whole = {key: fields.raw[key] for key in _OF_THE_WHOLE if key in fields.raw}
    ropes = {key: _of_text(section.raw[key]) for key in _ROPES if key in section.raw}
    kind = {"model_type": part.model_type} if part.model_type else {}
    return Fields({**part.left_out, **section.raw, **whole, **ropes, **kind}, section.where)


def _of_text(rope: Any) -> Any:
    """A rope of time, height and width, which text has all the same, as one of time."""
    if not isinstance(rope, Mapping) or "mrope_section" not in rope:
        return rope
    kept = {key: value for key, value in rope.items() if not key.startswith("mrope_")}
    kinds = {key: "default" for key in ("type", "rope_type") if kept.get(key) == "mrope"}
    return {**kept, **kinds}
