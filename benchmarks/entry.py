"""How a benchmark begins and ends: its options; one line and a status where it cannot run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from lm_offload.errors import LMOffloadError, StorageError

INTERRUPTED = 130  # as a shell says it of Ctrl-C


def parser_of(about: str | None) -> argparse.ArgumentParser:
    """The command line of a module, described by the first line of its documentation."""
    return argparse.ArgumentParser(description=(about or "").partition("\n")[0])


def result_parser(about: str | None) -> argparse.ArgumentParser:
    """The same of a module that writes a result file."""
    found = parser_of(about)
    found.add_argument("--json", type=Path, help="also write the result to this file")
    return found


def run(main: Callable[[], int | None]) -> NoReturn:
    """The program of a module: no error that a user can mend, and no Ctrl-C, shows a traceback."""
    try:
        sys.exit(main())
    except LMOffloadError as error:
        _end(f"error: {error}", error.exit_status)
    except OSError as error:
        place, reason = error.filename or "A file", error.strerror or error
        _end(f"error: {place} cannot be read or written ({reason}).", StorageError.exit_status)
    except KeyboardInterrupt:
        _end("interrupted", INTERRUPTED)


def _end(message: str, status: int) -> NoReturn:
    print(message, file=sys.stderr)
    sys.exit(status)
