"""`lm-offload`: one command of several tools."""

from __future__ import annotations

import logging
import sys

import typer

from lm_offload.cli.demo import demo
from lm_offload.cli.generate import generate
from lm_offload.cli.plan import plan
from lm_offload.errors import LMOffloadError

app = typer.Typer(
    help="Run language models that do not fit in memory.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(generate)
app.command()(demo)
app.command()(plan)


@app.command()
def version() -> None:
    """Print the version of the package and of what it computes with."""
    from importlib.metadata import version as version_of

    from lm_offload.hardware.limits import allowed_cores
    from lm_offload.kernels.resolve import resolve_kernels

    kernels = resolve_kernels(allowed_cores())
    typer.echo(f"lm-offload {version_of('lm-offload')}, torch {version_of('torch')}")
    typer.echo(f"kernels {kernels.name}, {kernels.threads} threads")


def main() -> None:
    """Entry point: errors become one sentence and an exit status."""
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    try:
        app()
    except LMOffloadError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_status)
