"""Units that the CPU computes where their weights lie, in sweeps of few rows.

Moving a unit takes as long for one row as for a thousand, computing it does not. In a small sweep
(decode) hidden states go to the weights; in a large one (prefill) the same units are uploaded::

    small   h2d  | u1 |  u3 |  u5  | r2 | u7 ...          units 2, 4 and 6 are computed in place
            gpu  | c0 | c1 |               | c3 |         s, r: hidden states, down and back
            d2h            | s2 |                | s4 |
            cpu                 |    c2    |          |    c4    | ...

    large   h2d  | u1 | u2 | u3 | u4 | u5 | ...           as where the device computes all
            gpu  | c0 |   c1   |   c2   |   c3   | ...

Units that follow one another on the CPU hand nothing over between them. Of several micro-batches
one is on the CPU while another is on the device (see `host_attention`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lm_offload.schedule.task import Task, TaskId

NOTHING: frozenset[int] = frozenset()


@dataclass(frozen=True)
class InPlace:
    """Which units the CPU computes, and in which sweeps."""

    units: frozenset[int] = NOTHING
    most_rows: int = 0  # of such a sweep: the switch point

    def of(self, rows: int) -> frozenset[int]:
        """Those of a sweep of so many rows."""
        return self.units if rows <= self.most_rows else NOTHING


class Handovers:
    """The hidden states of a sweep on their way between device and CPU, by micro-batch."""

    def __init__(self) -> None:
        self._on_host: dict[int, TaskId] = {}  # by micro-batch, what the CPU did last to it

    def to_host(self, compute: TaskId, before: tuple[TaskId, ...]) -> Iterator[Task]:
        """The tasks of a unit on the CPU; the device has computed up to `before`."""
        last = self._on_host.get(compute.micro_batch)
        if last is None:
            last = compute._replace(kind="download_hidden")
            yield Task(last, "d2h", before)
        yield Task(compute, "cpu", (last,))
        self._on_host[compute.micro_batch] = compute

    def to_device(self, micro_batches: Iterable[int]) -> list[Task]:
        """What brings back those of these micro-batches that the CPU has."""
        found = [self._on_host.pop(it) for it in micro_batches if it in self._on_host]
        return [Task(last._replace(kind="upload_hidden"), "h2d", (last,)) for last in found]
