"""Where reports go, as tables that people read and as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from typing import Any

import typer
from rich.console import Console
from rich.table import Column, Table


def people_console(quiet: bool) -> Console:
    """Where people read: standard error, so that results can be piped."""
    return Console(stderr=True, quiet=quiet)


def report_console(as_json: bool, quiet: bool = False) -> Console:
    """Where a report goes: standard output, unless that is for JSON."""
    return Console(stderr=as_json, quiet=quiet)


def print_json(result: object) -> None:
    """One JSON object on a line of standard output; dataclasses become objects."""
    typer.echo(json.dumps(result, default=_as_dict))


def print_rows(console: Console, title: str, rows: Iterable[tuple[str, str]]) -> None:
    """A titled table of names and values."""
    columns = Column(), Column(overflow="fold")  # paths are shown whole
    table = Table(*columns, title=title, title_justify="left", show_header=False)
    for name, value in rows:
        table.add_row(name, value)
    console.print(table)


def _as_dict(value: Any) -> dict[str, Any]:
    return dataclasses.asdict(value)
