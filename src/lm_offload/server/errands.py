"""What other threads want done by the model's, beside its sweeps."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from lm_offload.errors import LMOffloadError

T = TypeVar("T")


class Errands:
    """Calls that wait for their turn; `lock` is held for a moment only, never in a call."""

    def __init__(self, lock: AbstractContextManager[Any]) -> None:
        self._lock = lock
        self._waiting: deque[tuple[Callable[[], Any], Future[Any]]] = deque()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, call: Callable[[], T]) -> Future[T]:
        """Its result, once it has been its turn."""
        result: Future[T] = Future()
        with self._lock:
            self._waiting.append((call, result))
        return result

    def run(self) -> None:
        """All that wait and are still wanted; what a call raises is its result."""
        while (errand := self._next()) is not None:
            call, result = errand
            try:
                found = call()
            except Exception as error:  # of one request: the model serves others
                result.set_exception(error)
            else:
                result.set_result(found)

    def fail(self, error: LMOffloadError) -> None:
        """None of them will be run."""
        while (errand := self._next()) is not None:
            errand[1].set_exception(error)

    def _next(self) -> tuple[Callable[[], Any], Future[Any]] | None:
        with self._lock:
            while self._waiting:
                call, result = self._waiting.popleft()
                if result.set_running_or_notify_cancel():
                    return call, result
        return None
