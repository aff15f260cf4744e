"""What other threads want done by the model's, beside its sweeps."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from lm_offload.errors import LMOffloadError

T = TypeVar("T")


class Errands:
    """Calls that wait for their turn; whoever owns them guards them with a lock."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Callable[[], Any], Future[Any]]] = deque()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, call: Callable[[], T]) -> Future[T]:
        """Its result, once it has been its turn."""
        result: Future[T] = Future()
        self._waiting.append((call, result))
        return result

    def run(self) -> None:
        """All that wait; what a call raises is its result."""
        while self._waiting:
            call, result = self._waiting.popleft()
            try:
                result.set_result(call())
            except LMOffloadError as error:
                result.set_exception(error)

    def fail(self, error: LMOffloadError) -> None:
        """None of them will be run."""
        while self._waiting:
            self._waiting.popleft()[1].set_exception(error)
