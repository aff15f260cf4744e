"""How fast small units come from disk, read by the queue that the engine reads them with.

Their blocks take a fraction of a millisecond, beside which it shows what threads take to find the
next one, and to wake who waits for a unit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from itertools import count

from lm_offload.hardware.timing import Deadline
from lm_offload.pipeline.disk_queue import DiskQueue
from lm_offload.pipeline.progress import Progress
from lm_offload.pipeline.trace import NullTrace
from lm_offload.schedule.task import Task, TaskId
from lm_offload.storage.blocks import Block

AHEAD = 2  # units in a ring


class UnitReads:
    """Queues that stay open until they are closed."""

    def __init__(self) -> None:
        self._opened = ExitStack()

    def sampler(
        self, units: Sequence[Sequence[Block]], depth: int, seconds: float
    ) -> Callable[[], float]:
        """A function that gives seconds per byte of reading the blocks of one unit after another.

        Each is released as soon as it is there; a unit is read beside it.
        """
        progress, numbers = Progress(), count()

        def blocks_of(task: Task) -> list[Callable[[], int]]:
            return [block.read for block in units[task.id.sweep % len(units)]]

        queue = self._opened.enter_context(
            closing(DiskQueue(progress, blocks_of, depth, NullTrace(), "unit-reads"))
        )

        def begin() -> TaskId:
            read = TaskId(next(numbers), "read", 0)
            queue.submit([Task(read, "disk_read", ())])
            return read

        return lambda: _byte_s(begin, progress, queue, seconds)

    def close(self) -> None:
        """Stop the threads."""
        self._opened.close()


def _byte_s(
    begin: Callable[[], TaskId], progress: Progress, queue: DiskQueue, seconds: float
) -> float:
    """Seconds per byte after the first unit."""
    deadline, under_way = Deadline(seconds), [begin() for _ in range(AHEAD)]
    progress.wait((under_way.pop(0),))
    start_s, known_bytes = time.perf_counter(), queue.moved_bytes["read"]
    while not deadline.passed:
        under_way.append(begin())
        progress.wait((under_way.pop(0),))
    progress.wait(tuple(under_way))
    end_s = time.perf_counter()
    progress.forget_before(under_way[-1].sweep + 1)
    return (end_s - start_s) / max(queue.moved_bytes["read"] - known_bytes, 1)
