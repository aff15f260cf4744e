"""A disk and a CPU that only pretend: the ring is bytes, a read writes who it is for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from lm_offload.pipeline.disk_queue import DiskQueue, Transfer
from lm_offload.pipeline.executor import Disk, Executor, OverlappedExecutor, SerialExecutor
from lm_offload.pipeline.progress import Progress
from lm_offload.pipeline.trace import ChromeTrace
from lm_offload.schedule.sweep import SweepSchedule
from lm_offload.schedule.task import Task

BLOCKS_PER_READ = 3


def mark(task: Task) -> int:
    """The byte that fills a unit's place in the ring during one sweep, or its home."""
    if task.ring_offset < 0:
        return task.id.unit + 1
    return (task.id.sweep * 31 + task.id.unit) % 251 + 1


@dataclass
class FakeBlock:
    """A read that takes `delay_s`, then fails or fills its part of the ring."""

    memory: memoryview
    value: int
    delay_s: float
    error: BaseException | None

    def read(self) -> int:
        time.sleep(self.delay_s)
        if self.error is not None:
            raise self.error
        self.memory[:] = bytes([self.value]) * len(self.memory)
        return len(self.memory)


class Rig:
    """An executor over pretended resources; `computed` is what the CPU did, in order."""

    def __init__(
        self,
        sizes: Sequence[int | None],
        ring_bytes: int,
        overlap: bool = True,
        read_s: float = 0.0,
        compute_s: float = 0.0,
        fail: Callable[[Task], BaseException | None] = lambda task: None,
        in_flight_bytes: int = 8,
    ) -> None:
        self.computed: list[tuple[int, int, int]] = []
        self.sizes = sizes
        self.trace = ChromeTrace([f"unit {index}" for index in range(len(sizes))])
        self._ring = memoryview(bytearray(ring_bytes))
        self._homes = [memoryview(bytearray(size or 0)) for size in sizes]
        self._read_s, self._compute_s, self._fail = read_s, compute_s, fail
        streamed = {unit: size for unit, size in enumerate(sizes) if size is not None}
        progress = Progress()
        self.disk = DiskQueue(progress, self._blocks, 2 if streamed else 0, self.trace)
        writes = DiskQueue(progress, self._blocks, 0, self.trace)
        make = OverlappedExecutor if overlap else SerialExecutor
        schedule = SweepSchedule(streamed, ring_bytes, in_flight_bytes)
        self.executor: Executor = make(schedule, Disk(self.disk, writes), progress, self.trace)

    def sweep(self, micro_batches: Sequence[int] | None = None):
        return self.executor.run_sweep(micro_batches or [1] * len(self.sizes), self._compute)

    def scribble(self, units: Iterable[int]) -> None:
        """Somebody else uses the homes of these units."""
        for unit in units:
            self._homes[unit][:] = bytes([255]) * len(self._homes[unit])

    def _memory(self, task: Task) -> memoryview:
        at = task.ring_offset
        return self._homes[task.id.unit] if at < 0 else self._ring[at:]

    def _blocks(self, task: Task) -> list[Transfer]:
        step = -(-task.size_bytes // BLOCKS_PER_READ)
        starts = range(0, task.size_bytes, step)
        stops = [min(start + step, task.size_bytes) for start in starts]
        return [self._block(task, *ends).read for ends in zip(starts, stops, strict=True)]

    def _block(self, task: Task, start: int, stop: int) -> FakeBlock:
        start, stop = task.unit_offset + start, task.unit_offset + stop
        return FakeBlock(self._memory(task)[start:stop], mark(task), self._read_s, self._fail(task))

    def _compute(self, task: Task) -> None:
        size = self.sizes[task.id.unit]
        for _ in range(2):  # at the beginning and at the end of the computation
            if size is not None:
                place = self._memory(task)[:size]
                assert bytes(place) == bytes([mark(task)]) * size, f"{task} reads other weights"
            time.sleep(self._compute_s / 2)
        self.computed.append((task.id.sweep, task.id.unit, task.id.micro_batch))


def reader_threads() -> list[str]:
    """Names of the reader threads that are alive."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("disk-read")]


def spans(trace: ChromeTrace, kind: str) -> list[tuple[float, float]]:
    """Start and end of all tasks of a kind, in microseconds."""
    events = [event for event in trace._events if event["cat"] == kind]
    return sorted((event["ts"], event["ts"] + event["dur"]) for event in events)


def overlaps(trace: ChromeTrace, one: str, other: str) -> int:
    """Pairs of a task of each kind that ran at the same time."""
    others = spans(trace, other)
    return sum(max(a[0], b[0]) < min(a[1], b[1]) for a in spans(trace, one) for b in others)


def runs_ahead(trace: ChromeTrace, kind: str) -> bool:
    """Whether tasks of a kind for the second sweep began while the first one still computed."""
    began = min(e["ts"] for e in trace._events if e["cat"] == kind and e["args"]["sweep"] == 1)
    first = [e for e in trace._events if e["cat"] == "compute" and e["args"]["sweep"] == 0]
    return began < max(event["ts"] + event["dur"] for event in first)
