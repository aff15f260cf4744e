"""A stream of the stand-in: a thread that does its work in order, copies at the pace of a link."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from lm_offload.device.base import Event, Work
from lm_offload.errors import DeviceError

if TYPE_CHECKING:
    from torch import Tensor

Pace = Callable[["Tensor", "Tensor"], float]  # bytes/s of a copy from source to target


class WorkerEvent:
    """A place in the work of a thread, with the moment at which it was reached."""

    def __init__(self) -> None:
        self._reached = threading.Event()
        self._moment_s = 0.0
        self.error: BaseException | None = None

    def reach(self, error: BaseException | None) -> None:
        """The thread is here, or failed before."""
        self.error = error
        self._moment_s = time.perf_counter()
        self._reached.set()

    def synchronize(self) -> None:
        """See `Event.synchronize`."""
        self._reached.wait()
        if self.error is not None:
            raise self.error

    def elapsed_s(self, since: Event) -> float:
        """See `Event.elapsed_s`."""
        assert isinstance(since, WorkerEvent)
        return self._moment_s - since._moment_s


class WorkerStream:
    """See `Stream`. After an error nothing more is done, and every event carries it."""

    def __init__(self, name: str, pace: Pace) -> None:
        self._pace = pace
        self._error: BaseException | None = None
        self._work: queue.SimpleQueue[Work | WorkerEvent | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def launch(self, work: Work) -> None:
        """See `Stream.launch`; the thread calls `work`."""
        if not self._thread.is_alive():
            raise DeviceError("The stand-in for a device was closed; open it again.")
        self._work.put(work)

    def copy_async(self, source: Tensor, target: Tensor) -> None:
        """See `Stream.copy_async`; it takes as long as the link would."""
        self.launch(lambda: self._copy(source, target))

    def record(self) -> WorkerEvent:
        """See `Stream.record`."""
        event = WorkerEvent()
        self._work.put(event)
        return event

    def wait(self, event: Event) -> None:
        """See `Stream.wait`."""
        self.launch(event.synchronize)

    def close(self) -> None:
        """Finish what was submitted and end the thread."""
        self._work.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            if isinstance(work, WorkerEvent):
                work.reach(self._error)
            elif self._error is None:
                self._do(work)

    def _do(self, work: Work) -> None:
        try:
            work()
        except BaseException as error:
            self._error = error

    def _copy(self, source: Tensor, target: Tensor) -> None:
        start_s = time.perf_counter()
        target.copy_(source)
        least_s = source.nbytes / self._pace(source, target)
        time.sleep(max(least_s - (time.perf_counter() - start_s), 0.0))
