"""How a benchmark ends that cannot run: one line and an exit status, no traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable

from lm_offload.errors import LMOffloadError


def run(main: Callable[[], int | None]) -> None:
    """The program of a module."""
    try:
        sys.exit(main())
    except LMOffloadError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
