"""What somebody may have meant by a name that is not known."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

NEAR = 0.7  # of 1, as `difflib` counts: gpu is not what tpu meant


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """` (did you mean opt-30b?)`, for behind the name; nothing where none of the known is near."""
    near = get_close_matches(str(name), list(known), n=1, cutoff=NEAR)
    return f" (did you mean {near[0]}?)" if near else ""
