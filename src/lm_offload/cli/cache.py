"""`lm-offload cache`: what lies in the cache of quantized weights, and how to be rid of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Column, Table

from lm_offload.cli import options
from lm_offload.cli.deletion import delete_entries, record_of
from lm_offload.cli.report import print_json, report_console
from lm_offload.errors import CheckpointError, ConfigError
from lm_offload.units import format_bytes

if TYPE_CHECKING:
    from lm_offload.engine.quantized_cache import CacheEntry

app = typer.Typer(help="The cache of quantized weights.", no_args_is_help=True)

Name = Annotated[
    str | None,
    typer.Argument(
        help="Only models whose name in `cache list` begins like this; default: all.",
        show_default=False,
        metavar="NAME",
    ),
]


@app.command("list")
def list_(as_json: options.Json = False, config: options.ConfigFile = None) -> None:
    """Show the size of every model and format in the cache."""
    from lm_offload.engine.quantized_cache import cache_folder, list_entries

    entries = list_entries()
    if as_json:
        print_json({"folder": str(cache_folder()), "entries": [record_of(one) for one in entries]})
        return
    console = report_console(as_json)
    columns = Column("model", overflow="fold"), "format", "size", ""
    table = Table(*columns, title=str(cache_folder()), title_justify="left")
    for entry in entries:
        table.add_row(entry.model, entry.format, format_bytes(entry.size_bytes), entry.state)
    table.add_section()
    table.add_row("all", "", format_bytes(sum(entry.size_bytes for entry in entries)), "")
    console.print(table)


@app.command()
def clear(
    name: Name = None,
    yes: options.Yes = False,
    as_json: options.Json = False,
    config: options.ConfigFile = None,
) -> None:
    """Delete quantized weights from the cache, after asking; checkpoints are not touched."""
    from lm_offload.engine.quantized_cache import remove_entry

    delete_entries(_entries(name), remove_entry, yes, as_json)


@app.command()
def verify(
    name: Name = None, as_json: options.Json = False, config: options.ConfigFile = None
) -> None:
    """Compare every byte with its checksum; what is damaged is mended when it is next used."""
    from lm_offload.engine.quantized_cache import verify_entry

    found = [
        (entry, verify_entry(entry)) for entry in _entries(name) if entry.state != "unfinished"
    ]
    damaged = [str(error) for _, error in found if error]
    if as_json:
        records = [record_of(entry) | {"error": str(error or "") or None} for entry, error in found]
        print_json({"entries": records})
    else:
        console = report_console(False)
        if not found:
            console.print("No quantized model is in the cache.")
        for entry, error in found:
            state = "damaged" if error else "sound"
            console.print(f"{state}: {entry.model} {entry.format}", soft_wrap=True)
    if damaged:
        raise CheckpointError(" ".join(damaged))


def _entries(name: str | None) -> list[CacheEntry]:
    """Those that `name` means; raises ConfigError for a name that means none."""
    from lm_offload.engine.quantized_cache import cache_folder, list_entries

    entries = [entry for entry in list_entries() if entry.model.startswith(name or "")]
    if name and not entries:
        raise ConfigError(
            f"No model in {cache_folder()} begins with {name!r}; see lm-offload cache list."
        )
    return entries
