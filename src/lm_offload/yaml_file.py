"""Reading the YAML (or JSON) that people write."""

from __future__ import annotations

from importlib.resources.abc import Traversable

from lm_offload.errors import ConfigError


def read_yaml(file: Traversable) -> object:
    """What a YAML file holds; raises ConfigError, in one sentence, where it cannot be read."""
    import yaml  # type: ignore[import-untyped]

    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{file} does not exist; check the path.") from error
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{file} cannot be read as YAML ({reason}); correct it.") from error
