"""List scheduling: when each task of a schedule starts and ends, given how long each takes.

A resource works in program order: the order in which its tasks are given. A task starts when its
resource is free and everything that it needs has ended::

    disk_read  | r1 | r3 |       r3 waits for the disk
    cpu        | c0 |  | c1 |    c1 waits for r1
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from lm_offload.schedule.task import Resource, Task, TaskId


@dataclass(frozen=True)
class Timeline:
    """Start and end of every task, in seconds, and the seconds that each resource works."""

    tasks: tuple[Task, ...]  # in the order in which they were placed
    starts_s: Mapping[TaskId, float]
    ends_s: Mapping[TaskId, float]
    busy_s: Mapping[Resource, float]

    @property
    def makespan_s(self) -> float:
        """The end of the last task; 0 without tasks."""
        return max(self.ends_s.values(), default=0.0)

    def busy_frac(self, resource: Resource) -> float:
        """The share of the makespan in which a resource works."""
        makespan_s = self.makespan_s
        return self.busy_s.get(resource, 0.0) / makespan_s if makespan_s else 0.0

    def critical_path(self) -> tuple[Task, ...]:
        """Tasks without a gap between them, from the start to the task that ends last."""
        by_id = {task.id: task for task in self.tasks}
        before = self._before_on_resource()
        path: list[Task] = []
        step = max(self.ends_s, key=lambda task_id: self.ends_s[task_id], default=None)
        while step is not None:
            path.append(by_id[step])
            causes = (*by_id[step].needs, *before.get(step, ()))
            started_s = self.starts_s[step]
            step = next((cause for cause in causes if self.ends_s[cause] == started_s), None)
        return tuple(reversed(path))

    def _before_on_resource(self) -> Mapping[TaskId, tuple[TaskId, ...]]:
        last: dict[Resource, TaskId] = {}
        before: dict[TaskId, tuple[TaskId, ...]] = {}
        for task in self.tasks:
            if task.resource in last:
                before[task.id] = (last[task.resource],)
            last[task.resource] = task.id
        return before


def _nothing(task: Task) -> float:
    return 0.0


def simulate(
    tasks: Iterable[Task],
    duration_of: Callable[[Task], float],
    idle_of: Callable[[Task], float] = _nothing,
) -> Timeline:
    """Place tasks on their resources; `duration_of` gives the seconds of each.

    `idle_of` is what it takes more where its resource waited for what it needs.

    A task may need one that is given later, as long as that one is on another resource. Raises
    ValueError where tasks wait for one another or for a task that is not there.
    """
    placement = _Placement(duration_of, idle_of)
    for task in tasks:
        placement.add(task)
    return placement.timeline()


class _Placement:
    """Places what can start; what cannot holds up the rest of its resource."""

    def __init__(
        self, duration_of: Callable[[Task], float], idle_of: Callable[[Task], float]
    ) -> None:
        self._duration_of = duration_of
        self._idle_of = idle_of
        self._placed: list[Task] = []
        self._starts_s: dict[TaskId, float] = {}
        self._ends_s: dict[TaskId, float] = {}
        self._free_s: dict[Resource, float] = {}
        self._busy_s: defaultdict[Resource, float] = defaultdict(float)
        self._held: dict[Resource, deque[Task]] = {}
        self._waiting: dict[TaskId, list[Resource]] = {}

    def add(self, task: Task) -> None:
        """Take the next task of its resource's program."""
        held = self._held.get(task.resource)
        if held:
            held.append(task)
        elif not self._place(task):
            self._held.setdefault(task.resource, deque()).append(task)
        elif task.id in self._waiting:
            self._resume(self._waiting.pop(task.id))

    def timeline(self) -> Timeline:
        """What was placed, which must be everything."""
        stuck = [held[0].id for held in self._held.values() if held]
        if stuck:
            raise ValueError(f"tasks wait for what never ends: {stuck}")
        return Timeline(tuple(self._placed), self._starts_s, self._ends_s, dict(self._busy_s))

    def _place(self, task: Task) -> bool:
        ends_s, resource = self._ends_s, task.resource
        start_s = free_s = self._free_s.get(resource, 0.0)
        for need in task.needs:
            end_s = ends_s.get(need)
            if end_s is None:
                self._waiting.setdefault(need, []).append(resource)
                return False
            if end_s > start_s:
                start_s = end_s
        duration_s = self._duration_of(task)
        if start_s > free_s:
            duration_s += self._idle_of(task)
        self._starts_s[task.id] = start_s
        ends_s[task.id] = self._free_s[resource] = start_s + duration_s
        self._busy_s[resource] += duration_s
        self._placed.append(task)
        return True

    def _resume(self, resources: list[Resource]) -> None:
        """Go on with resources whose first held task may start now, and with those they free."""
        while resources:
            held = self._held[resources.pop()]
            while held and self._place(held[0]):
                resources += self._waiting.pop(held.popleft().id, [])
