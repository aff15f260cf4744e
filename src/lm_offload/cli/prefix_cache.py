"""`lm-offload cache prefixes` and `clear-prefixes`: what a folder of `--prefix-cache` holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from lm_offload.cli import options
from lm_offload.cli.deletion import delete_entries, record_of
from lm_offload.cli.report import print_json, report_console
from lm_offload.errors import ConfigError
from lm_offload.units import format_bytes

if TYPE_CHECKING:
    from lm_offload.kvcache.prefix_entries import PrefixEntry

Folder = Annotated[
    Path, typer.Argument(help="The folder that was given to --prefix-cache.", metavar="FOLDER")
]


def prefixes(
    folder: Folder, as_json: options.Json = False, config: options.ConfigFile = None
) -> None:
    """Show the beginnings of prompts that a folder keeps, by model."""
    entries = _entries(folder)
    if as_json:
        print_json({"entries": [record_of(entry) for entry in entries]})
        return
    table = Table("model", "blocks", "size", title=str(folder), title_justify="left")
    for entry in entries:
        table.add_row(entry.folder.name, str(entry.blocks), format_bytes(entry.size_bytes))
    report_console(as_json).print(table)


def clear_prefixes(
    folder: Folder,
    yes: options.Yes = False,
    as_json: options.Json = False,
    config: options.ConfigFile = None,
) -> None:
    """Delete the beginnings of prompts that a folder keeps, after asking."""
    from lm_offload.kvcache.prefix_entries import remove_prefixes

    delete_entries(_entries(folder), remove_prefixes, yes, as_json)


def _entries(folder: Path) -> list[PrefixEntry]:
    from lm_offload.kvcache.prefix_entries import list_prefixes

    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder; give the one that --prefix-cache names.")
    return list_prefixes(folder)
