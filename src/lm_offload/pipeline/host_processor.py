"""The `cpu` resource beside a device: a thread that attends to, or computes, what the device sends.

::

    gpu   | project 0 | project 1 |         | compute 0 | mlp 0 | project 0' | compute 1 | ...
    d2h               | send 0 | send 1 |                                | send 0' |
    cpu                        | attend 0 | attend 1                 |   | attend 0' | ...
    h2d                                   | return 0 |                   | return 1 |

The caller submits; streams wait for one another by events, and only the return waits for the CPU.
Copies of hidden rows pass between the blocks of weights that are on the same link.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from lm_offload.device.base import Device, Work
from lm_offload.device.worker_stream import WorkerStream
from lm_offload.pipeline.device_queue import DeviceQueue
from lm_offload.pipeline.progress import Progress
from lm_offload.pipeline.trace import Trace
from lm_offload.schedule.task import Task

if TYPE_CHECKING:
    from torch import Tensor

Copy = Callable[[Task], tuple["Tensor", "Tensor"]]  # source and target


class HostProcessor:
    """Carries out what the CPU computes, and the copies that bring it there and back."""

    def __init__(
        self,
        device: Device,
        processor: DeviceQueue,
        copy_of: Copy,
        progress: Progress,
        trace: Trace,
    ) -> None:
        self._device = device
        self._processor = processor
        self._copy_of = copy_of
        self._progress = progress
        self._cpu = WorkerStream("cpu", lambda source, target: float("inf"))
        self._queue = DeviceQueue(self._cpu, progress, trace)

    @property
    def busy_s(self) -> float:
        """Seconds of the CPU so far."""
        return self._queue.busy_s

    def submit(self, task: Task, work: Work) -> None:
        """Start `task` when what was submitted before lets it; its needs are submitted."""
        if task.resource == "cpu":
            self._queue.launch(task, work)
            self._queue.release(task)
            return
        if task.resource == "d2h":
            self._device.d2h.wait(self._processor.reached())
            self._device.d2h.copy_async(*self._copy_of(task))
            self._cpu.wait(self._device.d2h.record())
        else:
            self._device.h2d.copy_async(*self._copy_of(task))
            self._processor.wait(self._device.h2d.record())
        self._progress.finish(task.id)

    def close(self) -> None:
        """Finish what was submitted and end the threads."""
        self._queue.close()
        self._cpu.close()
