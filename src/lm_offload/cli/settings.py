"""Values of options from the environment and from a file: flag > environment > file > default.

The key of an option is its long name without the dashes. Both sources become the defaults of the
command, so an option that is given wins; a variable wins over the file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from lm_offload.errors import ConfigError
from lm_offload.near_name import did_you_mean
from lm_offload.yaml_file import read_yaml_as_text

ENVIRONMENT_PREFIX = "LM_OFFLOAD_"


def apply_settings(
    context: typer.Context, file_option: typer.CallbackParam, file: Path | None
) -> Path | None:
    """Callback of the option that names the file, which is read before all others.

    Raises ConfigError.
    """
    if not context.resilient_parsing:  # the shell completes a command, nothing will run
        options = (it for it in context.command.params if it.name != file_option.name)
        known = {key_of(option): option for option in options}
        values = {**_from_file(context, known, file), **_from_environment(context, known)}
        context.default_map = {str(known[key].name): value for key, value in values.items()}
    return file


def variable_of(key: str) -> str:
    """The environment variable of an option: `cpu-memory` is LM_OFFLOAD_CPU_MEMORY."""
    return ENVIRONMENT_PREFIX + key.upper().replace("-", "_")


def key_of(option: Any) -> str:
    """What an option is called in the file: its long name without the dashes."""
    return str(option.opts[0]).removeprefix("--")


def _from_environment(context: typer.Context, known: Mapping[str, Any]) -> dict[str, Any]:
    values = {}
    for key, option in known.items():
        text = os.environ.get(variable_of(key))
        if text:
            value = text.splitlines() if option.multiple else text
            values[key] = _checked(context, option, value, variable_of(key))
    return values


def _from_file(
    context: typer.Context, known: Mapping[str, Any], file: Path | None
) -> dict[str, Any]:
    if file is None:
        return {}
    values = _read_yaml(file)
    for key in values:
        if key not in known:
            raise ConfigError(
                f"{file.name} has the key {key!r}{did_you_mean(key, known)}, allowed for "
                f"{context.info_name} are {', '.join(sorted(known))}; correct it or take it out."
            )
    return {
        key: _checked(context, known[key], value, f"{key} in {file.name}")
        for key, value in values.items()
    }


def _read_yaml(file: Path) -> dict[str, Any]:
    values = read_yaml_as_text(file)
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{file.name} must hold lines like 'cpu-memory: 8GiB'; correct it.")
    return values


def _checked(context: typer.Context, option: Any, value: Any, place: str) -> Any:
    """The value as the command line would have taken it; text goes through the option's type."""
    parts = value if option.multiple and isinstance(value, list) else [value]
    if option.multiple is not isinstance(value, list) or not all(map(_is_scalar, parts)):
        kind = "a list" if option.multiple else "a single value"
        raise ConfigError(f"{place} is {value!r}; allowed is {kind}.")
    texts = [str(part) for part in parts]  # 2.5 is no integer, neither is true
    try:
        return option.process_value(context, texts if option.multiple else texts[0])
    except typer.BadParameter as error:
        reason = error.message.rstrip(".")
        raise ConfigError(f"{place} is {value!r}, which is not allowed: {reason}.") from error


def _is_scalar(value: Any) -> bool:
    return isinstance(value, (str, int, float))
