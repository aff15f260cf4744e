"""Sweeps of an engine whose kernels have nothing to do, timed.

Between two tasks memory is read, as it is for weights in a real sweep: what Python needs has left
the caches when it is needed again.
"""

from __future__ import annotations

import tempfile
import time
from array import array
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Items
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import torch

from lm_offload.engine.cpu_machinery import build_cpu_machinery
from lm_offload.engine.engine import Engine
from lm_offload.engine.opening import open_model
from lm_offload.engine.planning import plan_for
from lm_offload.engine.tiny_model import write_tiny_model
from lm_offload.hardware.memory_probe import probe_memory
from lm_offload.hardware.profile import HardwareProfile
from lm_offload.kernels.base import Kernels
from lm_offload.kernels.memory import read_memory
from lm_offload.pipeline.executor import NOTHING_STAGED, Compute, Executor
from lm_offload.pipeline.trace import NullTrace
from lm_offload.plan import Workload
from lm_offload.sampling import SamplingParams
from lm_offload.schedule.kv_staging import Groups
from lm_offload.schedule.task import Task
from lm_offload.sequence import Sequence
from lm_offload.step_time import StepTime
from lm_offload.units import MIB

SWEEPS, FIRST_SWEEPS = 48, 4  # of each model; the first ones write down what is replayed
BUDGET_BYTES = 8 * MIB
STREAM_BYTES = MIB  # that are read after each task
STREAMED_BYTES = 64 * MIB  # at most, one part after the other


@dataclass(frozen=True)
class Case:
    """One model and what it does in every sweep."""

    layers: int
    sequences: int = 1
    rows: int = 1  # of each sequence


def typical_sweeps_s(
    cases: Items[Case], profile: HardwareProfile, kernels: Kernels, memory_bytes: int
) -> dict[Case, float]:
    """The median sweep of each case, without the reads of memory between its tasks.

    Sweeps of the cases are taken in turns; `memory_bytes` bound what is read.
    """
    stream = _Stream(kernels.threads, min(STREAMED_BYTES, memory_bytes))
    with ExitStack() as stack:
        steps = {
            case: stack.enter_context(_engine_step(case, profile, kernels, stream))
            for case in cases
        }
        seconds = [{case: step() for case, step in steps.items()} for _ in range(SWEEPS)]
    return {case: median(turn[case] for turn in seconds[FIRST_SWEEPS:]) for case in cases}


@contextmanager
def _engine_step(
    case: Case, profile: HardwareProfile, kernels: Kernels, stream: _Stream
) -> Iterator[Callable[[], float]]:
    """A function that runs one sweep of a case, everything resident, and says its seconds."""
    workload, prompt = _workload(case)
    with tempfile.TemporaryDirectory() as folder:
        write_tiny_model(Path(folder), case.layers)
        files = open_model(folder)
        plan = plan_for([files], workload, profile, BUDGET_BYTES, kernels.threads)
        rows = case.sequences * case.rows
        plan = replace(plan, sweep_tokens=rows, micro_batch_tokens=rows)
        machinery = build_cpu_machinery(files, plan, kernels, NullTrace(), True, lambda *_: None)
        executor = _StreamingExecutor(machinery.executor, stream)
        engine = Engine(replace(machinery, executor=executor), (), lambda sequence, token: False)
        engine.add(_sequences(prompt, workload))
        try:
            yield lambda: _step_s(engine, stream)
        finally:
            machinery.close()


def _workload(case: Case) -> tuple[Workload, list[int]]:
    """Decode, or prompts, for all sweeps; with one of the prompts."""
    sweeps = SWEEPS + 2
    prompt, output = (1, sweeps) if case.rows == 1 else (case.rows * sweeps, 1)
    return Workload((prompt,) * case.sequences, (output,) * case.sequences), [1] * prompt


def _sequences(prompt: list[int], workload: Workload) -> list[Sequence]:
    return [
        Sequence(index, array("i", prompt), SamplingParams(max_tokens=length, ignore_eos=True))
        for index, length in enumerate(workload.output_lens)
    ]


def _step_s(engine: Engine, stream: _Stream) -> float:
    start_s, streamed_s = time.perf_counter(), stream.seconds
    engine.step()
    return time.perf_counter() - start_s - (stream.seconds - streamed_s)


class _Stream:
    """Reads of memory as weights cause them; `seconds` is what they took."""

    def __init__(self, threads: int, memory_bytes: int) -> None:
        arena = probe_memory(memory_bytes)
        memory = arena.view(0, torch.float32, (arena.size_bytes // 4,))
        self.seconds = 0.0
        self._threads = threads
        self._parts = torch.split(memory, STREAM_BYTES // 4)
        self._next = 0

    def read(self) -> None:
        """One part after the other."""
        start_s = time.perf_counter()
        read_memory(self._parts[self._next % len(self._parts)], self._threads)
        self.seconds += time.perf_counter() - start_s
        self._next += 1


class _StreamingExecutor:
    """An executor with a read of memory after each compute task."""

    def __init__(self, inner: Executor, stream: _Stream) -> None:
        self._inner = inner
        self._stream = stream

    def run_sweep(
        self, micro_batches: Items[int], compute: Compute, groups: Groups = NOTHING_STAGED
    ) -> StepTime:
        """See `Executor.run_sweep`."""

        def compute_and_read(task: Task) -> None:
            compute(task)
            self._stream.read()

        return self._inner.run_sweep(micro_batches, compute_and_read, groups)

    def close(self) -> None:
        """See `Executor.close`."""
        self._inner.close()
