"""The file that finished prompts are appended to, line by line."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from lm_offload.storage.durable import unwritten


@contextmanager
def appended(output: Path | None) -> Iterator[TextIO]:
    """The end of the file, or standard output.

    Raises StorageError where the disk is full; the lines before stay, and nothing of the last.
    """
    if output is None:
        yield sys.stdout
        return
    start = output.stat().st_size if output.is_file() else 0
    try:
        with output.open("a", encoding="utf-8") as file:
            yield file
    except OSError as error:
        if output.is_file():
            _drop_half_line(output, start)
        raise unwritten(output, error) from error


def _drop_half_line(file: Path, start: int) -> None:
    """Cut what follows the last end of a line, but nothing before `start`."""
    with file.open("rb") as stream:
        stream.seek(start)
        whole = stream.read().rfind(b"\n") + 1
    os.truncate(file, start + whole)
