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
from lm_offload.errors import CheckpointError, UnsupportedModelError

__all__ = [
    "DTYPE_BYTES",
    "ROPE_KINDS",
    "LayerConfig",
    "ModelConfig",
    "RopeConfig",
    "load_config",
    "parse_config",
    "supported_model_types",
]


def load_config(folder: Path) -> ModelConfig:
    """The config of a checkpoint folder, with the end tokens of its `generation_config.json`.

    Raises CheckpointError (a file is missing, not JSON or inconsistent) or UnsupportedModelError.
    """
    if not (folder / "config.json").is_file():
        raise CheckpointError(
            f"{folder} has no config.json, but a Hugging Face checkpoint folder is needed; "
            "check the path."
        )
    config = parse_config(_read_json(folder / "config.json"))
    generation = folder / "generation_config.json"
    if not generation.is_file():
        return config
    fields = Fields(_read_json(generation), generation.name)
    return replace(config, eos_token_ids=fields.token_ids("eos_token_id", config.eos_token_ids))


def parse_config(raw: Mapping[str, Any]) -> ModelConfig:
    """The content of a `config.json`, as written by transformers 4.x or 5.x."""
    if not isinstance(raw, Mapping):
        raise CheckpointError(
            f"config.json holds {type(raw).__name__} data, but an object is needed; "
            "download it again."
        )
    fields = Fields(raw)
    model_type = fields.text("model_type")
    if model_type not in PARSERS:
        raise UnsupportedModelError(
            f"config.json has model_type {model_type!r}, supported are "
            f"{', '.join(supported_model_types())}; choose another checkpoint."
        )
    _refuse_quantized(fields)
    return PARSERS[model_type](fields)


def supported_model_types() -> tuple[str, ...]:
    """The names that `model_type` may have, sorted."""
    return tuple(sorted(PARSERS))


def _refuse_quantized(fields: Fields) -> None:
    for key in ("quantization_config", "compression_config"):
        if fields.get(key):
            raise UnsupportedModelError(
                f"config.json has {key}, supported are {', '.join(DTYPE_BYTES)} weights; "
                "choose the unquantized checkpoint."
            )


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path} cannot be read as JSON ({error}); download it again."
        ) from error
