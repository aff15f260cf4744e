"""Who may use a loaded model: one run at a time, in the process that loaded it."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from threading import Lock
from typing import TypeVar

from lm_offload.errors import LMOffloadError, RequestError

Item = TypeVar("Item")


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


def ending_with(run: Generator[tuple[Item, bool], None, None]) -> Iterator[Item]:
    """What a run gives, marked where it is the last: that comes when the run has ended.

    So the next run can begin, though nobody has asked for more. An error of the end follows it.
    """
    with closing(run):
        for item, is_last in run:
            failed = _end(run) if is_last else None
            yield item
            if failed is not None:
                raise failed


def _end(run: Generator[object, None, None]) -> LMOffloadError | None:
    try:
        next(run, None)
    except LMOffloadError as error:
        return error
    return None
