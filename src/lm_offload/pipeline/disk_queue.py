"""A link between two tiers: tasks in program order, their blocks by several threads.

Blocks of the next task are started while the last ones of this task are still in flight, so the
disk never runs dry between two units::

    thread 0   | u1.0 | u1.2 | u3.0 | ...
    thread 1   | u1.1 | u1.3 | u3.1 | ...        u3 starts as soon as its place is released

Weights and the KV cache have rings of their own, and a sweep's KV reads are queued when those of
its weights are already there: each kind keeps its order, and of the tasks that may start the one
whose unit is used first does.

The link to a device works in the same way, its blocks being copies that are waited for.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Sequence

from lm_offload.pipeline.progress import Progress
from lm_offload.pipeline.trace import Trace
from lm_offload.schedule.task import Kind, Task

Transfer = Callable[[], int]  # moves one block and says how many bytes it has


class _OpenTask:
    """A task whose blocks are being moved."""

    def __init__(self, task: Task, blocks: Sequence[Transfer]) -> None:
        self.task = task
        self.blocks = deque(blocks)
        self.unfinished = len(blocks)
        self.start_s = time.perf_counter()


class DiskQueue:
    """Threads over a queue of tasks; `blocks_of` says what a task has to move."""

    def __init__(
        self,
        progress: Progress,
        blocks_of: Callable[[Task], Sequence[Transfer]],
        concurrency: int,
        trace: Trace,
        name: str = "disk-read",
    ) -> None:
        self.moved_bytes: Counter[Kind] = Counter()
        self._in_flight = 0
        self._busy_s = 0.0  # up to the last moment with no block in flight
        self._busy_since_s = 0.0
        self._progress = progress
        self._idle = threading.Condition(progress.lock)  # threads without a block
        self._blocks_of = blocks_of
        self._trace = trace
        self._tasks: dict[Kind, deque[Task]] = defaultdict(deque)
        self._open: _OpenTask | None = None
        self._closed = False
        progress.subscribe(self._wake)
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}-{index}", daemon=True)
            for index in range(concurrency)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def busy_s(self) -> float:
        """Seconds so far with at least one block in flight."""
        with self._progress.lock:
            running_s = time.perf_counter() - self._busy_since_s if self._in_flight else 0.0
            return self._busy_s + running_s

    def submit(self, tasks: Iterable[Task]) -> None:
        """Append tasks; returns at once."""
        if added := list(tasks):
            with self._progress.lock:
                for task in added:
                    self._tasks[task.id.kind].append(task)
                self._wake()

    def withdraw(self) -> None:
        """Drop the tasks that have not been started and wait for those that have."""
        with self._progress.changed:
            self._tasks.clear()
            self._progress.changed.wait_for(lambda: self._is_idle or self._progress.has_failed)

    @property
    def _is_idle(self) -> bool:
        return self._open is None and not self._in_flight

    def close(self) -> None:
        """Stop after the blocks in flight, drop the rest."""
        with self._progress.lock:
            self._closed = True
            self._idle.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        try:
            while (claimed := self._claim()) is not None:
                opened, block = claimed
                self._complete(opened, block())
        except BaseException as error:
            self._progress.fail(error)

    def _claim(self) -> tuple[_OpenTask, Transfer] | None:
        with self._progress.lock:
            while not self._closed:
                if self._open is None and (task := self._next()) is not None:
                    self._tasks[task.id.kind].popleft()
                    self._open = _OpenTask(task, self._blocks_of(task))
                    self._idle.notify(self._open.unfinished - 1)
                if self._open is not None:
                    return self._take_block(self._open)
                self._idle.wait()
        return None

    def _wake(self) -> None:
        """Wake one thread if it may start a task; it wakes as many more as the task has blocks."""
        if self._open is None and self._next() is not None:
            self._idle.notify()

    def _take_block(self, opened: _OpenTask) -> tuple[_OpenTask, Transfer]:
        block = opened.blocks.popleft()
        if not opened.blocks:
            self._open = None
            self._wake()
        if self._in_flight == 0:
            self._busy_since_s = time.perf_counter()
        self._in_flight += 1
        return opened, block

    def _next(self) -> Task | None:
        """The first task of its kind that may start; of several the one that is used first."""
        heads = [tasks[0] for tasks in self._tasks.values() if tasks]
        ready = [task for task in heads if self._progress.is_done(task.needs)]
        return min(ready, key=_use, default=None)

    def _complete(self, opened: _OpenTask, count: int) -> None:
        with self._progress.lock:
            self.moved_bytes[opened.task.id.kind] += count
            opened.unfinished -= 1
            self._in_flight -= 1
            if self._in_flight == 0:
                self._busy_s += time.perf_counter() - self._busy_since_s
            if opened.unfinished == 0:
                self._trace.record(opened.task, opened.start_s, time.perf_counter())
                self._progress.announce(opened.task.id)  # with the lock: `withdraw` waits for it


def _use(task: Task) -> tuple[int, int, bool, int]:
    """When what a task moves is used: a unit's weights before its keys and values."""
    return task.id.sweep, task.id.unit, task.id.kind == "read_kv", task.id.micro_batch
