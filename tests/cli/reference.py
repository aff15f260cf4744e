"""The tables of options in docs/cli.md, made from the commands themselves.

::

    python -m tests.cli.reference     # write them anew
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import typer.main

from lm_offload.cli.main import app

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"


@cache
def verbs() -> dict[str, Any]:
    """Each command by its name, those of a group by both names."""
    found = {}
    for name, verb in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        for part, command in getattr(verb, "commands", {"": verb}).items():
            found[f"{name} {part}".strip()] = command
    return found


def table(verb: Any) -> str:
    """What a command takes: a line for each argument and option."""
    rows = ["| option | default | |", "|---|---|---|"]
    for option in verb.params:
        names = [*option.opts, *option.secondary_opts]
        shown = ", ".join(f"`{name}`" for name in names)
        shown = f"`{option.metavar}`" if not names[0].startswith("-") else shown
        default = (
            "" if option.default is None or option.default is False else f"`{option.default!r}`"
        )
        rows.append(f"| {shown} | {default} | {option.help} |")
    return "\n".join(rows)


def with_tables(page: str) -> str:
    """The page with the table of each verb between its markers."""
    for name, verb in verbs().items():
        begin, end = f"<!-- options of {name}: begin -->", f"<!-- options of {name}: end -->"
        block = f"{begin}\n{table(verb)}\n{end}"
        pattern = re.escape(begin) + ".*?" + re.escape(end)
        page = re.sub(pattern, lambda _, block=block: block, page, flags=re.DOTALL)
    return page


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text()))
