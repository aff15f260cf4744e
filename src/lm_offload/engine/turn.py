"""Who may use a loaded model: one run at a time, in the process that loaded it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from lm_offload.errors import RequestError


class Turn:
    """Given to one run after the other."""

    def __init__(self) -> None:
        self._lock = Lock()

    @contextmanager
    def taken(self) -> Iterator[None]:
        """For the time of a run; raises RequestError where another one has it."""
        if not self._lock.acquire(blocking=False):
            raise RequestError(
                "Another run of this LLM is unfinished; take its outputs to the end or close its "
                "iterator first, and let threads that share an LLM take turns by a lock."
            )
        try:
            yield
        finally:
            self._lock.release()


def check_process(loaded_by: int) -> None:
    """Raise RequestError in a fork of the process that loaded: its threads are not there."""
    if os.getpid() != loaded_by:
        raise RequestError(
            "This LLM was loaded by another process, of which this one is a fork, and cannot run "
            "without that one's threads; make an LLM after the fork."
        )
