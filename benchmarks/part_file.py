"""Result files, which are whole at every moment, whatever interrupts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lm_offload.errors import ConfigError
from lm_offload.storage import durable


def read_result(path: Path) -> dict[str, Any]:
    """A result file; raises ConfigError for anything else."""
    try:
        result = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read as JSON ({error}); name another file.") from error
    if not isinstance(result, dict):
        raise ConfigError(f"{path} is no result file; name another file.")
    return result


def write_whole(path: Path, result: dict[str, Any]) -> None:
    """Write beside the file, then take its place; raises OSError and leaves the one before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    durable.write_whole(path, (json.dumps(result, indent=1) + "\n").encode())
