"""From a checkpoint's `config.json` to a `ModelConfig`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lm_offload.arch.families import PARSERS
from lm_offload.arch.fields import Fields
from lm_offload.arch.rope import ROPE_KINDS, RopeConfig
from lm_offload.arch.shapes import DTYPE_BYTES, LayerConfig, ModelConfig
from lm_offload.arch.text_part import text_part
from lm_offload.errors import CheckpointError, UnsupportedModelError

__all__ = [
    "DTYPE_BYTES",
    "ROPE_KINDS",
    "LayerConfig",
    "ModelConfig",
    "RopeConfig",
    "load_config",
    "parse_config",
    "read_json",
    "supported_model_types",
    "with_end_tokens",
]


def load_config(path: Path) -> ModelConfig:
    """The config of a checkpoint folder, or a bare config file without a checkpoint.

    A folder's `generation_config.json` gives the end tokens. Raises CheckpointError (a file is
    missing, not JSON or inconsistent) or UnsupportedModelError.
    """
    if path.is_file():
        return parse_config(read_json(path), path.name)
    if not (path / "config.json").is_file():
        if (path / "adapter_config.json").is_file():
            raise CheckpointError(
                f"{path} holds an adapter (LoRA), which cannot be run by itself; merge it into its "
                "model and give the folder of that."
            )
        raise CheckpointError(
            f"{path} has no config.json, but a Hugging Face checkpoint folder is needed; "
            "check the path."
        )
    return with_end_tokens(parse_config(read_json(path / "config.json")), path)


def with_end_tokens(config: ModelConfig, folder: Path) -> ModelConfig:
    """The end tokens are those of `generation_config.json`, where a checkpoint has one."""
    generation = folder / "generation_config.json"
    if not generation.is_file():
        return config
    fields = _fields_of(read_json(generation), generation.name)
    return replace(config, eos_token_ids=fields.token_ids("eos_token_id", config.eos_token_ids))


def _fields_of(raw: Any, where: str) -> Fields:
    """Raises CheckpointError for what is no object."""
    if not isinstance(raw, Mapping):
        raise CheckpointError(
            f"{where} holds {type(raw).__name__} data, but an object is needed; download it again."
        )
    return Fields(raw, where)


def parse_config(raw: Mapping[str, Any], where: str = "config.json") -> ModelConfig:
    """The content of a `config.json`, as written by transformers 4.x or 5.x."""
    whole = _fields_of(raw, where)
    fields = text_part(whole)
    model_type = fields.text("model_type")
    if model_type not in PARSERS:
        raise UnsupportedModelError(
            f"{fields.where} has model_type {model_type!r}, supported are "
            f"{', '.join(sorted(PARSERS))}; choose another checkpoint."
        )
    _refuse_quantized(whole)
    return PARSERS[model_type](fields)


def supported_model_types() -> tuple[str, ...]:
    """The model types that can be run, sorted."""
    return tuple(sorted(PARSERS))


def _refuse_quantized(fields: Fields) -> None:
    for key in ("quantization_config", "compression_config"):
        if fields.get(key) and not _is_as_published(fields):
            raise UnsupportedModelError(
                f"{fields.where} has {key}, supported are {', '.join(DTYPE_BYTES)} weights; "
                "choose the unquantized checkpoint."
            )


def _is_as_published(fields: Fields) -> bool:
    """Whether it is gpt-oss in MXFP4, which a config alone is planned in."""
    section = fields.get("quantization_config")
    method = section.get("quant_method") if isinstance(section, Mapping) else None
    return fields.get("model_type") == "gpt_oss" and method == "mxfp4"


def read_json(path: Path) -> Any:
    """The content of a JSON file; raises CheckpointError."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path} cannot be read as JSON ({error}); download it again."
        ) from error
