"""Which tasks are done, and waiting until others are."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

from lm_offload.schedule.task import TaskId


class Progress:
    """The set of finished tasks, shared by all resources; the first error ends every wait."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self._listeners: list[Callable[[], None]] = []
        self._done: set[TaskId] = set()
        self._floor = 0  # every task of an earlier sweep is done
        self._error: BaseException | None = None

    @property
    def has_failed(self) -> bool:
        """Whether every wait ends with an error."""
        return self._error is not None

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Have `listener` called, with the lock held, whenever a task was announced.

        A queue has many threads of which few have anything to do then: it wakes those itself.
        """
        self._listeners.append(listener)

    def is_done(self, needs: Iterable[TaskId]) -> bool:
        """Whether all of `needs` are finished."""
        return all(need.sweep < self._floor or need in self._done for need in needs)

    def wait(self, needs: tuple[TaskId, ...]) -> float:
        """Block until all of `needs` are finished; returns the seconds waited.

        Raises what made another resource fail.
        """
        if self._error is None and self.is_done(needs):
            return 0.0
        start_s = time.perf_counter()
        with self.changed:
            self.changed.wait_for(lambda: self._error is not None or self.is_done(needs))
        if self._error is not None:
            raise self._error
        return time.perf_counter() - start_s

    def finish(self, task: TaskId) -> None:
        """Record a task that no other resource waits for; while a sweep runs."""
        self._done.add(task)

    def announce(self, task: TaskId) -> None:
        """Record a task and wake those who wait for it."""
        with self.lock:
            self._done.add(task)
            self.changed.notify_all()
            for listener in self._listeners:
                listener()

    def fail(self, error: BaseException) -> None:
        """End every wait with `error`."""
        with self.lock:
            self._error = self._error or error
            self.changed.notify_all()

    def forget_from(self, sweep: int) -> None:
        """Count no task of a sweep that has not begun as done; they will be done again."""
        with self.lock:
            self._done = {task for task in self._done if task.sweep < sweep}

    def forget_before(self, sweep: int) -> None:
        """Drop the records of finished sweeps; all their tasks count as done."""
        with self.lock:  # others announce meanwhile, and no record may be lost
            self._floor = sweep
            self._done = {task for task in self._done if task.sweep >= sweep}
