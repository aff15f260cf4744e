"""A link between two tiers: transfers in program order, their blocks by several threads.

Blocks of the next task are started while the last ones of this task are still in flight, so the
disk never runs dry between two units::

    thread 0   | u1.0 | u1.2 | u3.0 | ...
    thread 1   | u1.1 | u1.3 | u3.1 | ...        u3 starts as soon as its place is released

The link to a device works in the same way, its blocks being copies that are waited for.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from lm_offload.pipeline.progress import Progress
from lm_offload.pipeline.trace import Trace
from lm_offload.schedule.task import Task


class Transfer(Protocol):
    """One request of a link."""

    def read(self) -> int:
        """Do it; returns the bytes that were moved."""


class _OpenTask:
    """A task whose blocks are being read."""

    def __init__(self, task: Task, blocks: Sequence[Transfer]) -> None:
        self.task = task
        self.blocks = deque(blocks)
        self.unfinished = len(blocks)
        self.start_s = time.perf_counter()


class DiskQueue:
    """Reader threads over a queue of tasks; `blocks_of` says what a task has to read."""

    def __init__(
        self,
        progress: Progress,
        blocks_of: Callable[[Task], Sequence[Transfer]],
        concurrency: int,
        trace: Trace,
        name: str = "disk-read",
    ) -> None:
        self.read_bytes = 0
        self._in_flight = 0
        self._busy_s = 0.0  # up to the last moment with no block in flight
        self._busy_since_s = 0.0
        self._progress = progress
        self._blocks_of = blocks_of
        self._trace = trace
        self._tasks: deque[Task] = deque()
        self._open: _OpenTask | None = None
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}-{index}", daemon=True)
            for index in range(concurrency)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def busy_s(self) -> float:
        """Seconds so far with at least one block in flight."""
        with self._progress.changed:
            running_s = time.perf_counter() - self._busy_since_s if self._in_flight else 0.0
            return self._busy_s + running_s

    def submit(self, tasks: Iterable[Task]) -> None:
        """Append tasks; returns at once."""
        if added := list(tasks):
            with self._progress.changed:
                self._tasks.extend(added)
                self._progress.changed.notify_all()

    def close(self) -> None:
        """Stop after the blocks in flight, drop the rest."""
        with self._progress.changed:
            self._closed = True
            self._progress.changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (claimed := self._claim()) is not None:
            opened, block = claimed
            try:
                count = block.read()
            except BaseException as error:
                self._progress.fail(error)
                return
            self._complete(opened, count)

    def _claim(self) -> tuple[_OpenTask, Transfer] | None:
        with self._progress.changed:
            while not self._closed:
                if self._open is None and self._head_is_ready():
                    task = self._tasks.popleft()
                    self._open = _OpenTask(task, self._blocks_of(task))
                if self._open is not None:
                    return self._take_block(self._open)
                self._progress.changed.wait()
        return None

    def _take_block(self, opened: _OpenTask) -> tuple[_OpenTask, Transfer]:
        block = opened.blocks.popleft()
        if not opened.blocks:
            self._open = None
        if self._in_flight == 0:
            self._busy_since_s = time.perf_counter()
        self._in_flight += 1
        return opened, block

    def _head_is_ready(self) -> bool:
        return bool(self._tasks) and self._progress.is_done(self._tasks[0].needs)

    def _complete(self, opened: _OpenTask, count: int) -> None:
        with self._progress.changed:
            self.read_bytes += count
            opened.unfinished -= 1
            self._in_flight -= 1
            if self._in_flight == 0:
                self._busy_s += time.perf_counter() - self._busy_since_s
            finished = opened.unfinished == 0
        if finished:
            self._trace.record(opened.task, opened.start_s, time.perf_counter())
            self._progress.announce(opened.task.id)
