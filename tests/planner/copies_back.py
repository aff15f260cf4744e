"""What comes back from the CPU, as tasks on a timeline beside uploads.

A copy waits neither for uploads that were queued before it nor for what goes down, but for the
blocks that are on the link; its own seconds are counted where uploads leave the link to it::

    h2d    |   u1   |   u2   |   u3   | ...
    back        | wait | r0 |
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lm_offload.planner.sweeps.device_load import DeviceSweepLoad
from lm_offload.schedule.task import Task

BACK = ("return_attended", "upload_hidden")


def beside_uploads(tasks: Iterable[Task]) -> Iterator[Task]:
    """The same with those that come back on a queue of their own, each behind a task that waits."""
    for task in tasks:
        if task.id.kind not in BACK:
            yield task
            continue
        wait = replace(task, id=task.id._replace(kind="sync"), resource=f"wait for {task.id}")
        yield wait
        yield replace(task, resource="back", needs=(wait.id,))


@dataclass(frozen=True)
class Waiting:
    """A load with the seconds of the tasks that wait."""

    load: DeviceSweepLoad

    def __getattr__(self, name: str) -> Any:
        return getattr(self.load, name)

    def task_s(self, task: Task) -> float:
        return self.load.wait_s if task.id.kind == "sync" else self.load.task_s(task)


def waiting(loads: Sequence[DeviceSweepLoad]) -> list[Any]:
    return [Waiting(load) for load in loads]
