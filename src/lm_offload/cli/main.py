"""`lm-offload`: one command of several tools."""

from __future__ import annotations

import errno
import io
import logging
import os
import sys
from collections.abc import Callable
from typing import NoReturn, TextIO

import typer

from lm_offload.cli import cache
from lm_offload.cli.batch import batch
from lm_offload.cli.bench import bench
from lm_offload.cli.chat import chat
from lm_offload.cli.demo import demo
from lm_offload.cli.doctor import doctor
from lm_offload.cli.eval import evaluate
from lm_offload.cli.generate import generate
from lm_offload.cli.inspect import inspect
from lm_offload.cli.panels import GroupedCommand
from lm_offload.cli.plan import plan
from lm_offload.cli.prefix_cache import clear_prefixes, prefixes
from lm_offload.cli.profile import profile
from lm_offload.cli.quantize import quantize
from lm_offload.cli.serve import serve
from lm_offload.cli.simulate import simulate
from lm_offload.cli.version import version, with_version
from lm_offload.errors import LMOffloadError, StorageError

app = typer.Typer(
    name="lm-offload",
    help="Run language models that do not fit in memory.",
    epilog="Options come from flags, LM_OFFLOAD_<OPTION> variables, the --config file, in that "
    "order.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.callback()(with_version)
COMMANDS: dict[str, tuple[Callable[..., None], ...]] = {
    "Run a model": (generate, chat, serve, batch, demo),
    "Know before, and measure": (inspect, plan, profile, bench, simulate),
    "Formats of weights": (quantize, evaluate),
    "This installation": (doctor, version),
}
for panel, commands in COMMANDS.items():
    for command in commands:
        name = "eval" if command is evaluate else None  # which Python has a function of
        app.command(name, cls=GroupedCommand, rich_help_panel=panel)(command)
cache.app.command()(prefixes)
cache.app.command()(clear_prefixes)
app.add_typer(cache.app, name="cache", rich_help_panel="Formats of weights")


class CurrentStderr(logging.StreamHandler[TextIO]):
    """On standard error as it is now: a progress bar takes its place, to stay below them."""

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler.emit`."""
        self.setStream(sys.stderr)
        super().emit(record)


def main() -> None:
    """Every command: errors become one sentence and an exit status."""
    logging.basicConfig(
        format="%(levelname)s: %(message)s", level=logging.WARNING, handlers=[CurrentStderr()]
    )
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # an encoding without some characters
    try:
        app(prog_name="lm-offload")
    except LMOffloadError as error:
        _fail(error)
    except OSError as error:
        with open(os.devnull, "w") as nowhere:  # for what is still in the buffer
            os.dup2(nowhere.fileno(), 1)
        _fail(_as_ours(error))


def _fail(error: LMOffloadError) -> NoReturn:
    typer.echo(f"error: {error}", err=True)
    sys.exit(error.exit_status)


def _as_ours(error: OSError) -> StorageError:
    """What no room of the package saw: most often standard output on a full disk."""
    place = error.filename or "Standard output or a file"
    way = "free some room" if error.errno == errno.ENOSPC else "check it"
    return StorageError(f"{place} cannot be read or written ({error.strerror}); {way}, then retry.")
