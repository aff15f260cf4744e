"""`lm-offload`: one command of several tools."""

from __future__ import annotations

import logging
import sys

import typer

from lm_offload.cli import cache
from lm_offload.cli.bench import bench
from lm_offload.cli.chat import chat
from lm_offload.cli.demo import demo
from lm_offload.cli.doctor import doctor
from lm_offload.cli.eval import evaluate
from lm_offload.cli.generate import generate
from lm_offload.cli.inspect import inspect
from lm_offload.cli.plan import plan
from lm_offload.cli.prefix_cache import clear_prefixes, prefixes
from lm_offload.cli.profile import profile
from lm_offload.cli.quantize import quantize
from lm_offload.cli.simulate import simulate
from lm_offload.cli.version import version
from lm_offload.errors import LMOffloadError

app = typer.Typer(
    name="lm-offload",
    help="Run language models that do not fit in memory.",
    epilog="Options come from flags, LM_OFFLOAD_<OPTION> variables, the --config file, in that "
    "order.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for command in (
    generate,
    chat,
    demo,
    plan,
    profile,
    inspect,
    bench,
    simulate,
    quantize,
    doctor,
    version,
):
    app.command()(command)
app.command("eval")(evaluate)
cache.app.command()(prefixes)
cache.app.command()(clear_prefixes)
app.add_typer(cache.app, name="cache")


def main() -> None:
    """Entry point: errors become one sentence and an exit status."""
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    try:
        app(prog_name="lm-offload")
    except LMOffloadError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_status)
