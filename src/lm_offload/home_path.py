"""Paths that begin with a home folder."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from lm_offload.errors import ConfigError


def expanded(path: str | PathLike[str]) -> Path:
    """The path with `~` and `~user` replaced; raises ConfigError where there is no such home."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigError(
            f"{str(path)!r} begins with a home folder that is not known; write the whole path, or "
            "set HOME, or LM_OFFLOAD_CACHE for the cache."
        ) from error
