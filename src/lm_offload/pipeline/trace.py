"""What happened when: task start and end become a measured StepTime and a Chrome trace."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Protocol

from lm_offload.schedule.task import Resource, Task
from lm_offload.storage.durable import write_named


class Trace(Protocol):
    """Receives every finished task and every wait; called from any thread.

    Where it is `by_unit` every unit is a task of its own.
    """

    by_unit: bool

    def record(self, task: Task, start_s: float, end_s: float) -> None:
        """`task` ran from `start_s` to `end_s`, by `time.perf_counter`."""

    def record_wait(self, task: Task, start_s: float, end_s: float) -> None:
        """The resource of `task` was idle until what it needs was done."""


class NullTrace:
    """Keeps nothing."""

    def __init__(self, by_unit: bool = False) -> None:
        self.by_unit = by_unit

    def record(self, task: Task, start_s: float, end_s: float) -> None:
        """Forget it."""

    def record_wait(self, task: Task, start_s: float, end_s: float) -> None:
        """Forget it."""


class ChromeTrace:
    """Keeps every task and writes them in the format that Perfetto opens."""

    by_unit = True
    _TRACKS: ClassVar[dict[Resource, int]] = {
        "cpu": 1,
        "disk_read": 2,
        "disk_write": 3,
        "h2d": 4,
        "d2h": 5,
        "gpu": 6,
    }

    def __init__(self, unit_names: Sequence[str] = ()) -> None:
        self._unit_names = unit_names
        self._events: list[dict[str, object]] = []
        self._names: dict[int, Resource] = {}  # of the tracks in use

    def name_units(self, unit_names: Sequence[str]) -> None:
        """Tasks that are recorded from now on are those of these units."""
        self._unit_names = unit_names

    def record(self, task: Task, start_s: float, end_s: float) -> None:
        """Add one event named after what ran."""
        self._add(task.id.kind, task, start_s, end_s)

    def record_wait(self, task: Task, start_s: float, end_s: float) -> None:
        """Add one event named after what was waited for."""
        self._add("wait", task, start_s, end_s)

    def _add(self, kind: str, task: Task, start_s: float, end_s: float) -> None:
        event = {
            "name": f"{kind} {self._unit_names[task.id.unit]}",
            "cat": kind,
            "ph": "X",
            "pid": 1,
            "tid": self._track(task.resource),
            "ts": start_s * 1e6,
            "dur": (end_s - start_s) * 1e6,
            "args": {
                "sweep": task.id.sweep,
                "micro_batch": task.id.micro_batch,
                "bytes": task.size_bytes,
            },
        }
        self._events.append(event)  # list.append is atomic

    def _track(self, resource: Resource) -> int:
        """Of one device among several, behind those of all others."""
        kind = resource.rstrip("0123456789")
        number = resource.removeprefix(kind)
        track = self._TRACKS[kind] + (len(self._TRACKS) * (int(number) + 1) if number else 0)
        self._names[track] = resource
        return track

    def write(self, path: Path) -> None:
        """Write the file whole or not at all; raises StorageError."""
        names: list[dict[str, object]] = [
            {"name": "thread_name", "ph": "M", "pid": 1, "tid": tid, "args": {"name": name}}
            for tid, name in sorted(self._names.items())
        ]
        write_named(path, json.dumps({"traceEvents": names + self._events}).encode())
