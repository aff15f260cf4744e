"""`python -m lm_offload` is `lm-offload`."""

from __future__ import annotations

import signal
import sys
from types import FrameType

SIGNALLED = 128  # the status of a command that a signal ended is this and its number


def main() -> None:
    """Entry point; Ctrl-C ends the command while it is still being imported, too."""
    signal.signal(signal.SIGTERM, _end)
    try:
        from lm_offload.cli.main import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(SIGNALLED + signal.SIGINT)


def _end(number: int, frame: FrameType | None) -> None:
    """What is under way ends as after Ctrl-C: files are whole, a terminal is as it was."""
    sys.exit(SIGNALLED + number)


if __name__ == "__main__":
    main()
