"""Configs of well-known models that ship as data, so that they can be planned without files."""

from __future__ import annotations

import json
from importlib.resources import files

from lm_offload.arch.config import ModelConfig, load_config, parse_config
from lm_offload.errors import CheckpointError
from lm_offload.home_path import expanded
from lm_offload.near_name import did_you_mean

CONFIGS = files("lm_offload.arch") / "configs"


def shipped_models() -> tuple[str, ...]:
    """The names of the configs that ship, sorted."""
    names = (entry.name for entry in CONFIGS.iterdir())
    return tuple(sorted(name.removesuffix(".json") for name in names if name.endswith(".json")))


def find_config(model: str) -> ModelConfig:
    """The config of a checkpoint folder, of a bare config file, or of a model that ships by name.

    Raises CheckpointError.
    """
    path = expanded(model)
    if path.exists():
        return load_config(path)
    name = model.lower()
    if name not in shipped_models():
        raise CheckpointError(
            f"{model!r}{did_you_mean(name, shipped_models())} is neither a file nor a folder nor a "
            f"model that ships; write a path or one of {', '.join(shipped_models())}."
        )
    text = (CONFIGS / f"{name}.json").read_text(encoding="utf-8")
    return parse_config(json.loads(text), f"{name}.json")
