"""Files that are written at the end of a run are checked before it begins."""

from __future__ import annotations

import os
from pathlib import Path

from lm_offload.errors import ConfigError


def check_writable(file: Path | None) -> Path | None:
    """The same; raises ConfigError now instead of after a long run."""
    if file is None:
        return None
    place = file if file.exists() and not file.is_file() else file.parent  # a device, a pipe
    if file.is_dir() or not os.access(place, os.W_OK):
        raise ConfigError(f"{file} cannot be written; name a file in a folder that is writable.")
    return file
