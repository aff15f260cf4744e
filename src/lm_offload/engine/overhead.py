"""What the engine costs beside its kernels, measured on models whose kernels have nothing to do.

::

    sweep = sweep_s + sequences * sequence_s + tasks * task_s + kernels * call_s

with 2 tasks and 14 kernels for each layer, 3 tasks and 4 kernels around them. A layer of decode is
replayed: it has tasks, but no calls of kernels. Two depths of decode and of prompts and two batches
give the four unknowns. Between two tasks memory is read, as it is for weights in a real sweep: what
Python needs has left the caches when it is needed again.
"""

from __future__ import annotations

import tempfile
import time
from array import array
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Items
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from lm_offload.engine.engine import Engine
from lm_offload.engine.machinery import build_machinery
from lm_offload.engine.model_files import open_model
from lm_offload.engine.planning import plan_for
from lm_offload.engine.tiny_model import VOCAB_SIZE, write_tiny_model
from lm_offload.hardware.memory_probe import probe_memory
from lm_offload.hardware.profile import HardwareProfile
from lm_offload.hardware.timing import typical_s
from lm_offload.kernels.base import Kernels
from lm_offload.kernels.memory import read_memory
from lm_offload.pipeline.executor import NOTHING_STAGED, Compute, Executor
from lm_offload.pipeline.trace import NullTrace
from lm_offload.plan import StepTime, Workload
from lm_offload.sampling import SamplingParams
from lm_offload.sampling.draw import Row, sample
from lm_offload.schedule.kv_staging import Groups
from lm_offload.schedule.task import Task
from lm_offload.sequence import Sequence
from lm_offload.units import MIB

SHALLOW, DEEP = 2, 10
FEW, MANY = 1, 16  # sequences
SWEEPS, FIRST_SWEEPS = 48, 4  # of each model; the first ones write down what is replayed
CHUNK_TOKENS = 2  # of a prompt in a sweep: more than one row is no decode
BUDGET_BYTES = 8 * MIB
STREAM_BYTES = MIB  # that are read after each task
STREAMED_BYTES = 64 * MIB  # at most, one part after the other
LAYER_TASKS, LAYER_KERNELS = 2, 14
OTHER_TASKS, OTHER_KERNELS = 3, 4  # embedding, final norm with its gather, head
SAMPLED_VALUES = 1 << 17
SAMPLING_BUDGET_S = 0.02


@dataclass(frozen=True)
class Case:
    """One model and what it does in every sweep."""

    layers: int
    sequences: int = FEW
    rows: int = 1  # of each sequence


DECODE, DEEP_DECODE, MANY_DECODE = Case(SHALLOW), Case(DEEP), Case(SHALLOW, MANY)
PROMPT, DEEP_PROMPT = Case(SHALLOW, rows=CHUNK_TOKENS), Case(DEEP, rows=CHUNK_TOKENS)
CASES = (DECODE, DEEP_DECODE, MANY_DECODE, PROMPT, DEEP_PROMPT)


def with_overhead(profile: HardwareProfile, kernels: Kernels, memory_bytes: int) -> HardwareProfile:
    """The profile with what the engine takes on the CPU: of a task, a sweep, a sequence, a call.

    `memory_bytes` bound what is read between tasks.
    """
    seconds = _sweeps_s(profile, kernels, min(STREAMED_BYTES, memory_bytes))
    layer_s = (seconds[DEEP_DECODE] - seconds[DECODE]) / (DEEP - SHALLOW)
    called_layer_s = (seconds[DEEP_PROMPT] - seconds[PROMPT]) / (DEEP - SHALLOW)
    replays = kernels.record() is not None
    call_s = max(called_layer_s - layer_s, 0.0) / LAYER_KERNELS if replays else 0.0
    kernel_s = call_s or profile.cpu.kernel_s
    if not call_s:  # nothing can be replayed, and every kernel is counted with `kernel_s`
        layer_s -= LAYER_KERNELS * kernel_s
    task_s = max(layer_s, 0.0) / LAYER_TASKS
    sequence_s = max(seconds[MANY_DECODE] - seconds[DECODE], 0.0) / (MANY - FEW)
    others_s = (SHALLOW * LAYER_TASKS + OTHER_TASKS) * task_s + OTHER_KERNELS * kernel_s
    cpu = replace(
        profile.cpu,
        task_s=task_s,
        call_s=call_s,
        sweep_s=max(seconds[DECODE] - others_s - FEW * sequence_s, 0.0),
        sequence_s=sequence_s,
        sampled_values_per_s=_sampled_values_per_s(),
    )
    return replace(profile, cpu=cpu)


def _sweeps_s(profile: HardwareProfile, kernels: Kernels, memory_bytes: int) -> dict[Case, float]:
    """The median sweep of each case without its kernels' reads; sweeps are taken in turns."""
    stream = _Stream(kernels.threads, memory_bytes)
    with ExitStack() as stack:
        steps = {
            case: stack.enter_context(_engine_step(case, profile, kernels, stream))
            for case in CASES
        }
        seconds = [{case: step() for case, step in steps.items()} for _ in range(SWEEPS)]
    return {case: median(turn[case] for turn in seconds[FIRST_SWEEPS:]) for case in CASES}


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
        machinery = build_machinery(files, plan, kernels, NullTrace(), True, lambda *_: None)
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


def _sampled_values_per_s() -> float:
    """Logits a second that one thread checks and takes the likeliest tokens from."""
    rows = [Row(SamplingParams(), 0, (), ())] * 4
    small, large = (torch.rand(len(rows), width) for width in (VOCAB_SIZE, SAMPLED_VALUES))
    works = {x.shape[1]: partial(_checked_sample, x, rows) for x in (small, large)}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    seconds = typical_s(works, SAMPLING_BUDGET_S)
    torch.set_num_threads(threads)
    extra_s = seconds[SAMPLED_VALUES] - seconds[VOCAB_SIZE]
    return len(rows) * (SAMPLED_VALUES - VOCAB_SIZE) / max(extra_s, 1e-9)


def _checked_sample(logits: Tensor, rows: list[Row]) -> list[int]:
    """What an engine does with the logits of a sweep."""
    assert bool(torch.isfinite(logits.amax(dim=-1)).all())
    return sample(logits, rows)
