"""Closes what a model held that was forgotten without being closed."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from typing import Any
from weakref import finalize

Close = Callable[[], None]


def close_when_forgotten(owner: object, close: Close) -> finalize[..., Any]:
    """Call `close`, which must not hold `owner`, soon after the last reference to `owner` is gone.

    The threads that it ends may be those that forget, so it gets one of its own. A fork has none
    of them and may hold their locks for ever: it leaves all as it is, as does the end of a process.
    """
    closing = finalize(owner, _close_in_thread, close, os.getpid())
    closing.atexit = False
    return closing


def _close_in_thread(close: Close, made_by: int) -> None:
    if os.getpid() == made_by:
        with suppress(RuntimeError):  # the interpreter is ending
            Thread(target=close, name="close-forgotten", daemon=True).start()
