"""How options of the commands are declared, and what of them is checked before a command runs."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import typer

from lm_offload.cli.line_file import STANDARD_STREAM
from lm_offload.cli.settings import apply_settings
from lm_offload.engine.output_file import check_writable
from lm_offload.errors import ConfigError

SERVER_PACKAGES = ("fastapi", "uvicorn", "prometheus_client")


def option(help: str, *names: str, **more: Any) -> Any:
    """An option with this help, its names and what else `typer.Option` takes."""
    return typer.Option(*names, help=help, **more)


def unset(help: str, *names: str, **more: Any) -> Any:
    """An option whose default is said in its help."""
    return option(help, *names, show_default=False, **more)


def check_sink(file: Path | None) -> Path | None:
    """The same where `-` is standard output."""
    return file if file == STANDARD_STREAM else check_writable(file)


def check_installed() -> None:
    """Raise ConfigError where a package is missing that OpenAI's interface needs."""
    missing = [name for name in SERVER_PACKAGES if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"{', '.join(missing)} cannot be imported; install what this command needs: "
            "pip install 'lm-offload[server]'."
        )


def settings_file(name: str) -> Any:
    """The option of the file that sets all others."""
    return typer.Option(
        name,
        help="YAML file whose keys are the long names of these options; options and "
        "LM_OFFLOAD_<OPTION> variables win over it.",
        show_default=False,
        is_eager=True,
        callback=apply_settings,
        envvar="LM_OFFLOAD_CONFIG",
        show_envvar=False,
    )
