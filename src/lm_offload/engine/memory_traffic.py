"""Reads of memory between the tasks of an engine, as weights cause them in a real sweep."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lm_offload.hardware.memory_probe import probe_memory
from lm_offload.kernels.memory import read_memory
from lm_offload.pipeline.executor import NOTHING_STAGED, Compute, Executor
from lm_offload.schedule.kv_staging import Groups
from lm_offload.schedule.task import Task
from lm_offload.step_time import StepTime

F32_BYTES = torch.float32.itemsize


@dataclass(frozen=True)
class Traffic:
    """Memory that is read after each task and before each sweep, out of so many bytes."""

    task_bytes: int
    sweep_bytes: int
    within_bytes: int


class MemoryReads:
    """Reads of memory as weights cause them; `seconds` is what they took."""

    def __init__(self, threads: int, memory_bytes: int) -> None:
        arena = probe_memory(memory_bytes)
        self.seconds = 0.0
        self._threads = threads
        self._memory = arena.view(0, torch.float32, (arena.size_bytes // F32_BYTES,))
        self._traffic = Traffic(0, 0, 0)
        self._at = 0

    def begin(self, traffic: Traffic) -> None:
        """A sweep with this traffic begins."""
        self._traffic = traffic
        self._read(traffic.sweep_bytes)

    def read_task(self) -> None:
        """What a task reads."""
        self._read(self._traffic.task_bytes)

    def _read(self, size_bytes: int) -> None:
        """One part of the memory after the other."""
        start_s = time.perf_counter()
        within = min(self._traffic.within_bytes // F32_BYTES, len(self._memory))
        count = min(size_bytes // F32_BYTES, within)
        if self._at + count > within:
            self._at = 0
        if count:
            read_memory(self._memory[self._at : self._at + count], self._threads)
        self._at += count
        self.seconds += time.perf_counter() - start_s


class StreamingExecutor:
    """An executor with a read of memory after each compute task."""

    def __init__(self, inner: Executor, reads: MemoryReads) -> None:
        self._inner = inner
        self._reads = reads

    def run_sweep(
        self, micro_batches: Sequence[int], compute: Compute, groups: Groups = NOTHING_STAGED
    ) -> StepTime:
        """See `Executor.run_sweep`."""

        def compute_and_read(task: Task) -> None:
            compute(task)
            for _ in range(task.units):
                self._reads.read_task()

        return self._inner.run_sweep(micro_batches, compute_and_read, groups)

    def close(self) -> None:
        """See `Executor.close`."""
        self._inner.close()
