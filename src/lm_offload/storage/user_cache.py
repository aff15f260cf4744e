"""The folder where this package keeps what it can make again: profiles, quantized weights."""

from __future__ import annotations

import os
from pathlib import Path


def user_cache_folder() -> Path:
    """$LM_OFFLOAD_CACHE, $XDG_CACHE_HOME/lm-offload or ~/.cache/lm-offload; need not exist."""
    if own := os.environ.get("LM_OFFLOAD_CACHE"):
        return Path(own).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(shared).expanduser() / "lm-offload"
