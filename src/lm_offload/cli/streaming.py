"""Text on standard output as it is generated."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING

import typer

from lm_offload.cli.progress import RunProgress
from lm_offload.sampling import SamplingParams

if TYPE_CHECKING:
    from lm_offload.engine.llm import LLM


def stream_text(
    llm: LLM,
    prompt: Sequence[int],
    params: SamplingParams,
    progress: RunProgress,
    opening: str = "",
) -> None:
    """Write `opening` and a completion as it comes, and end the line; before, progress is shown."""
    begun = False
    try:
        for piece in pieces(llm, prompt, params, progress):
            text, opening = opening + piece, ""
            begun = begun or bool(text)
            typer.echo(text, nl=False)
    finally:
        if begun:  # an error that follows gets a line of its own
            typer.echo()


def pieces(
    llm: LLM, prompt: Sequence[int], params: SamplingParams, progress: RunProgress
) -> Generator[str, None, None]:
    """The completion piece by piece, one for each sweep, empty while nothing is certain."""
    for piece in llm.stream(prompt, params, progress.on_sweep):
        if piece:
            progress.mute()
        yield piece
