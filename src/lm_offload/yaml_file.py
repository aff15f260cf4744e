"""Reading the YAML (or JSON) that people write."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources.abc import Traversable
from typing import Any

from lm_offload.errors import ConfigError

_NOT_TEXT = ("tag:yaml.org,2002:null", "tag:yaml.org,2002:merge")


def read_yaml(file: Traversable) -> object:
    """What a YAML file holds; raises ConfigError, in one sentence, where it cannot be read."""
    import yaml  # type: ignore[import-untyped]

    return _read(file, yaml.safe_load)


def read_yaml_as_text(file: Traversable) -> object:
    """The same with values as they are written: `off` is no False, `1.10` no 1.1; null is None."""
    import yaml

    known = yaml.SafeLoader.yaml_implicit_resolvers
    kept = {first: [it for it in pairs if it[0] in _NOT_TEXT] for first, pairs in known.items()}
    loader = type("TextLoader", (yaml.SafeLoader,), {"yaml_implicit_resolvers": kept})
    return _read(file, lambda text: yaml.load(text, loader))  # a SafeLoader as above


def _read(file: Traversable, parse: Callable[[str], Any]) -> object:
    import yaml

    try:
        return parse(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{file} does not exist; check the path.") from error
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{file} cannot be read as YAML ({reason}); correct it.") from error
