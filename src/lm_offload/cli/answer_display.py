"""Answers on standard output as they come: to people, to pipes, as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer

from lm_offload.cli.report import print_json

if TYPE_CHECKING:
    from lm_offload.engine.text_parts import Parts


def show_answer(parts: Iterator[Parts]) -> None:
    """What was reasoned dimmed, then what is said."""
    reasoned = said = False
    for part in parts:
        if part.reasoning:
            typer.secho(part.reasoning, nl=False, dim=True)
            reasoned = True
        if part.content:
            typer.echo("\n\n" * (reasoned and not said), nl=False)
            typer.echo(part.content, nl=False)
            said = True
    typer.echo()


def show_content(parts: Iterator[Parts]) -> None:
    """What is said alone."""
    for part in parts:
        typer.echo(part.content, nl=False)
    typer.echo()


def show_json(parts: Iterator[Parts]) -> None:
    """A message when it is complete, by the names of the server."""
    given = list(parts)
    reasoning = "".join(part.reasoning for part in given)
    message = {"role": "assistant", "content": "".join(part.content for part in given)}
    print_json({**message, **({"reasoning_content": reasoning} if reasoning else {})})
