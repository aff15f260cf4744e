"""The `gpu` resource: tasks are launched in program order and end later, beside the launcher.

::

    launcher   | c0 | c1 | c2 |  waits for the upload of 3  | c3 |
    device          |   c0   |   c1   |   c2   |            |   c3  |
    finisher                 r0       r1       r2                   r3     releases, one by one
"""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from lm_offload.device.base import Event, Stream, Work
from lm_offload.pipeline.progress import Progress
from lm_offload.pipeline.trace import Trace
from lm_offload.schedule.task import Task

if TYPE_CHECKING:
    from torch import Tensor


class _Launched(NamedTuple):
    task: Task
    start: Event | None  # None: nothing was launched, the task ends with the one before it
    end: Event


class DeviceQueue:
    """Launches compute tasks and announces a release when the device has reached it."""

    def __init__(self, stream: Stream, progress: Progress, trace: Trace) -> None:
        self.busy_s = 0.0  # of tasks that have ended
        self._stream = stream
        self._progress = progress
        self._trace = trace
        self._launched: queue.SimpleQueue[_Launched | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._finish, name="device-finish", daemon=True)
        self._thread.start()

    def launch(self, task: Task, work: Work) -> None:
        """Start `work` after everything launched before."""
        start = self._stream.record()
        self._stream.launch(work)
        self._launched.put(_Launched(task, start, self._stream.record()))

    def copy(self, task: Task, source: Tensor, target: Tensor) -> Event:
        """Copy after everything launched before; returns the event of its end."""
        start = self._stream.record()
        self._stream.copy_async(source, target)
        end = self._stream.record()
        self._launched.put(_Launched(task, start, end))
        return end

    def release(self, task: Task) -> None:
        """Announce `task` when everything launched before it has ended."""
        self._launched.put(_Launched(task, None, self._stream.record()))

    def reached(self) -> Event:
        """The event of everything launched so far."""
        return self._stream.record()

    def wait(self, event: Event) -> None:
        """What is launched later starts when `event` is reached."""
        self._stream.wait(event)

    def close(self) -> None:
        """Wait for what was launched and end the thread."""
        self._launched.put(None)
        self._thread.join()

    def _finish(self) -> None:
        while (launched := self._launched.get()) is not None:
            try:
                launched.end.synchronize()
                self._count(launched)
            except BaseException as error:
                self._progress.fail(error)
                return

    def _count(self, launched: _Launched) -> None:
        if launched.start is None:
            self._progress.announce(launched.task.id)
            return
        seconds, now_s = launched.end.elapsed_s(launched.start), time.perf_counter()
        self.busy_s += seconds
        self._trace.record(launched.task, now_s - seconds, now_s)
