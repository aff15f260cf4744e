"""`lm-offload doctor`: what this machine has, what is missing and what that costs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table

from lm_offload.cli import options
from lm_offload.cli.checkup import Finding, examine
from lm_offload.cli.report import print_json, report_console


def doctor(
    path: Annotated[
        Path | None,
        typer.Argument(
            help="File or folder whose disk is looked at; default: the Hugging Face cache if "
            "there is one, else the current folder.",
            show_default=False,
            metavar="PATH",
        ),
    ] = None,
    as_json: options.Json = False,
    config: options.ConfigFile = None,
) -> None:
    """Look at machine, disk, memory limits and libraries."""
    findings = examine(path)
    if as_json:
        print_json({"findings": findings, "missing": [f.name for f in findings if f.cost]})
        return
    console = report_console(as_json)
    columns = (Column(name, overflow="fold") for name in ("what", "found", "what it costs"))
    table = Table(*columns, title="lm-offload doctor", title_justify="left")
    for finding in findings:
        table.add_row(finding.name, _text(finding), finding.cost or "")
    console.print(table)


def _text(finding: Finding) -> str:
    if isinstance(finding.value, bool):
        return "yes" if finding.value else "no"
    return finding.words or str(finding.value)
