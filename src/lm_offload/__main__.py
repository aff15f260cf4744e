"""`python -m lm_offload` is `lm-offload`."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point; Ctrl-C ends the command while it is still being imported, too."""
    try:
        from lm_offload.cli.main import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
