"""The folder where this package keeps what it can make again: profiles, quantized weights."""

from __future__ import annotations

import os
from pathlib import Path

from lm_offload.home_path import expanded


def user_cache_folder() -> Path:
    """$LM_OFFLOAD_CACHE, $XDG_CACHE_HOME/lm-offload or ~/.cache/lm-offload; need not exist."""
    if own := os.environ.get("LM_OFFLOAD_CACHE"):
        return expanded(own)
    shared = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return expanded(shared) / "lm-offload"
