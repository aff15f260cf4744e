"""One of several devices: what works for it, and the thread that launches its tasks."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lm_offload.device.base import Event, Stream
from lm_offload.pipeline.device_queue import DeviceQueue
from lm_offload.pipeline.disk_queue import DiskQueue
from lm_offload.pipeline.executor import Compute
from lm_offload.pipeline.progress import Progress
from lm_offload.pipeline.trace import Trace
from lm_offload.schedule.task import Task, TaskId
from lm_offload.step_time import DeviceTime

if TYPE_CHECKING:
    from torch import Tensor

Rows = Callable[[Task], tuple["Tensor", "Tensor"]]  # of a send: where they are, where they go


@dataclass(frozen=True)
class StageResources:
    """What works for one device beside the others."""

    link: DiskQueue  # which brings its weights
    processor: DeviceQueue
    d2h: Stream
    sender: DeviceQueue  # over the same stream

    def time(self) -> DeviceTime:
        """Seconds and bytes so far."""
        moved_bytes = self.link.moved_bytes.total()
        return DeviceTime(self.processor.busy_s, self.link.busy_s, moved_bytes)

    def close(self) -> None:
        """Stop the threads of all of them."""
        self.link.close()
        self.processor.close()
        self.sender.close()


class StageLauncher:
    """Launches the tasks of one device in order, each when what it needs is there or queued."""

    def __init__(
        self,
        stage: StageResources,
        rows_of: Rows,
        sent: dict[TaskId, Event],
        progress: Progress,
        trace: Trace,
    ) -> None:
        self._stage = stage
        self._rows_of = rows_of
        self._sent = sent  # rows that have been queued for another device
        self._progress = progress
        self._trace = trace
        self._tasks: queue.SimpleQueue[tuple[Task, Compute] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="launch", daemon=True)
        self._thread.start()

    def submit(self, task: Task, compute: Compute) -> None:
        """Append a task; returns at once."""
        self._tasks.put((task, compute))

    def close(self) -> None:
        """End the thread; a task that waits for what never comes has failed before."""
        self._tasks.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (submitted := self._tasks.get()) is not None:
            try:
                self._start(*submitted)
            except BaseException as error:
                self._progress.fail(error)
                return

    def _start(self, task: Task, compute: Compute) -> None:
        self._wait(task)
        starts: Mapping[str, Callable[[Task, Compute], None]] = {
            "compute": self._compute,
            "release": self._release,
            "send_hidden": self._send,
            "download": self._download,
        }
        starts[task.id.kind](task, compute)

    def _wait(self, task: Task) -> None:
        if wait_s := self._progress.wait(task.needs):
            now_s = time.perf_counter()
            self._trace.record_wait(task, now_s - wait_s, now_s)

    def _compute(self, task: Task, compute: Compute) -> None:
        for need in task.needs:
            if need in self._sent:
                self._stage.processor.wait(self._sent.pop(need))
        self._stage.processor.launch(task, lambda: compute(task))
        self._progress.finish(task.id)

    def _release(self, task: Task, compute: Compute) -> None:
        self._stage.processor.release(task)

    def _send(self, task: Task, compute: Compute) -> None:
        """Announced when it is queued: the other device waits for its event."""
        self._stage.d2h.wait(self._stage.processor.reached())
        self._sent[task.id] = self._stage.sender.copy(task, *self._rows_of(task))
        self._progress.announce(task.id)

    def _download(self, task: Task, compute: Compute) -> None:
        """The end of a sweep: what the devices computed is on the host, and all are idle."""
        start_s = time.perf_counter()
        self._stage.d2h.wait(self._stage.processor.reached())
        self._stage.d2h.launch(lambda: compute(task))
        self._stage.d2h.record().synchronize()
        self._trace.record(task, start_s, time.perf_counter())
        self._stage.processor.release(task)  # announced when all that was launched is counted
