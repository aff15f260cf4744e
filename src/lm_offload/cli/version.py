"""`lm-offload version`: the package and what it computes with."""

from __future__ import annotations

from typing import Annotated

import typer

from lm_offload import __version__
from lm_offload.cli import options
from lm_offload.cli.report import print_json
from lm_offload.cli.variables import warn_of_strangers


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"lm-offload {__version__}")
        raise typer.Exit


def with_version(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version."),
    ] = False,
) -> None:
    """Run language models that do not fit in memory."""
    warn_of_strangers(context.command)


def version(as_json: options.Json = False, config: options.ConfigFile = None) -> None:
    """Print the version of the package and of what it computes with."""
    from importlib.metadata import version as version_of

    from lm_offload.hardware.limits import allowed_cores
    from lm_offload.kernels.resolve import resolve_kernels

    kernels = resolve_kernels(allowed_cores())
    found = {
        "lm_offload": __version__,
        "torch": version_of("torch"),
        "kernels": kernels.name,
        "threads": kernels.threads,
    }
    if as_json:
        print_json(found)
        return
    typer.echo(f"lm-offload {found['lm_offload']}, torch {found['torch']}")
    typer.echo(f"kernels {kernels.name}, {kernels.threads} threads")
