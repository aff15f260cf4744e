"""Shows what would be deleted, asks, deletes, and says what that freed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import typer

from lm_offload.cli.report import people_console, print_json
from lm_offload.errors import ConfigError
from lm_offload.units import format_bytes


class Entry(Protocol):
    """A folder that a cache keeps."""

    @property
    def folder(self) -> Path:
        """Where it lies."""

    @property
    def size_bytes(self) -> int:
        """What deleting it frees."""


E = TypeVar("E", bound=Entry)


def delete_entries(
    entries: Sequence[E], remove: Callable[[E], object], yes: bool, as_json: bool
) -> None:
    """Delete `entries` with `remove`; raises ConfigError where nobody can be asked."""
    console = people_console(False)
    for entry in entries:
        console.print(f"{entry.folder}, {format_bytes(entry.size_bytes)}", soft_wrap=True)
    if entries and not yes:
        _confirm(len(entries))
    for entry in entries:
        remove(entry)
    freed_bytes = sum(entry.size_bytes for entry in entries)
    if as_json:
        print_json({"deleted": [record_of(entry) for entry in entries], "freed_bytes": freed_bytes})
    else:
        console.print(f"{len(entries)} deleted, {format_bytes(freed_bytes)} freed")


def record_of(entry: Entry) -> dict[str, Any]:
    """An entry as JSON takes it."""
    return {**vars(entry), "folder": str(entry.folder)}


def _confirm(count: int) -> None:
    """Ask on a terminal; raises ConfigError where there is none."""
    if not sys.stdin.isatty():
        raise ConfigError("Nothing was deleted; give --yes where nobody can be asked.")
    typer.confirm(f"Delete {count} of them?", abort=True, err=True)
