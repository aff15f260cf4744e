"""`lm-offload cache prefixes` and `clear-prefixes`: what a folder of `--prefix-cache` holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from lm_offload.cli import options
from lm_offload.cli.cache import confirm_deletion
from lm_offload.cli.report import people_console, print_json, report_console
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
        print_json({"entries": [_record(entry) for entry in entries]})
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

    entries, console = _entries(folder), people_console(False)
    for entry in entries:
        console.print(f"{entry.folder}, {format_bytes(entry.size_bytes)}", soft_wrap=True)
    if entries and not yes:
        confirm_deletion(len(entries))
    for entry in entries:
        remove_prefixes(entry)
    freed_bytes = sum(entry.size_bytes for entry in entries)
    if as_json:
        print_json({"deleted": [_record(entry) for entry in entries], "freed_bytes": freed_bytes})
    else:
        console.print(f"{len(entries)} deleted, {format_bytes(freed_bytes)} freed")


def _entries(folder: Path) -> list[PrefixEntry]:
    from lm_offload.kvcache.prefix_entries import list_prefixes

    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder; give the one that --prefix-cache names.")
    return list_prefixes(folder)


def _record(entry: PrefixEntry) -> dict[str, Any]:
    return {**vars(entry), "folder": str(entry.folder)}
