"""Sweeps of an engine whose kernels have nothing to do, timed."""

from __future__ import annotations

import tempfile
import time
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Items
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from lm_offload.engine.cpu_machinery import build_cpu_machinery
from lm_offload.engine.engine import Engine
from lm_offload.engine.memory_traffic import MemoryReads, StreamingExecutor, Traffic
from lm_offload.engine.model_files import ModelFiles
from lm_offload.engine.opening import open_model
from lm_offload.engine.planning import planning_request
from lm_offload.engine.tiny_model import write_tiny_model
from lm_offload.hardware.profile import HardwareProfile
from lm_offload.kernels.base import Kernels
from lm_offload.pipeline.trace import NullTrace
from lm_offload.plan import Plan, Workload
from lm_offload.planner.choose.search import make_plan
from lm_offload.planner.decided.fixed_plan import fixed_plan
from lm_offload.planner.decided.plan_choice import choice_of
from lm_offload.sampling import SamplingParams
from lm_offload.sequence import Sequence
from lm_offload.units import MIB

FIRST_SWEEPS = 4  # turns that do not count: what is replayed is written down in them
RUN_SWEEPS = 32  # of decode that follow a prompt
BUDGET_BYTES = 8 * MIB


@dataclass(frozen=True)
class Case:
    """One model and what it does in every sweep."""

    layers: int
    sequences: int = 1
    rows: int = 1  # of each sequence
    micro_batches: int = 1
    by_unit: bool = False  # a task for each unit, as where they are streamed


Turn = tuple[tuple[Case, Traffic], ...]
Samples = dict[tuple[Case, Traffic], list[float]]  # seconds of sweeps


def sampled_sweeps_s(
    turns: Items[Turn], count: int, profile: HardwareProfile, kernels: Kernels, memory_bytes: int
) -> Samples:
    """Sweeps of each case and traffic without the reads, `turns` taken in a circle, `count` times.

    `memory_bytes` bound what is read.
    """
    reads = MemoryReads(kernels.threads, memory_bytes)
    order = [turns[index % len(turns)] for index in range(-FIRST_SWEEPS, count)]
    sweeps = Counter(case for turn in order for case, _ in turn)
    seconds: Samples = defaultdict(list)
    with ExitStack() as stack:
        steps = {
            case: stack.enter_context(_engine_step(case, most, profile, kernels, reads))
            for case, most in sweeps.items()
        }
        for index, turn in enumerate(order):
            for case, traffic in turn:
                step_s = steps[case](traffic)
                if index >= FIRST_SWEEPS:
                    seconds[case, traffic].append(step_s)
    return seconds


def run_sweeps_s(
    case: Case,
    before: Traffic,
    traffic: Traffic,
    profile: HardwareProfile,
    kernels: Kernels,
    memory_bytes: int,
) -> list[float]:
    """Sweeps of a run of one case that begins after other work, `before`.

    The first ones take up to twice as long as those that find everything cached, some 16 later.
    """
    reads, sweeps = MemoryReads(kernels.threads, memory_bytes), FIRST_SWEEPS + RUN_SWEEPS
    with _engine_step(case, sweeps, profile, kernels, reads) as step:
        for _ in range(FIRST_SWEEPS):
            step(before)
        return [step(traffic) for _ in range(RUN_SWEEPS)]


@contextmanager
def _engine_step(
    case: Case, sweeps: int, profile: HardwareProfile, kernels: Kernels, reads: MemoryReads
) -> Iterator[Callable[[Traffic], float]]:
    """A function that runs one of the sweeps of a case, all resident, and says its seconds."""
    workload, prompt = _workload(case, sweeps + 2)
    with empty_engine(case, workload, profile, kernels, reads) as engine:
        engine.add(_sequences(prompt, workload))
        yield lambda traffic: _step_s(engine, reads, traffic)


@contextmanager
def empty_engine(
    case: Case,
    workload: Workload,
    profile: HardwareProfile,
    kernels: Kernels,
    reads: MemoryReads,
) -> Iterator[Engine]:
    """An engine for a case, all resident, in which memory is read between tasks."""
    with tempfile.TemporaryDirectory() as folder:
        write_tiny_model(Path(folder), case.layers)
        files = open_model(folder)
        plan = _plan_for(case, files, workload, profile, kernels.threads)
        trace = NullTrace(case.by_unit)
        machinery = build_cpu_machinery(files, plan, kernels, trace, True, lambda *_: None)
        executor = StreamingExecutor(machinery.executor, reads)
        try:
            yield Engine(replace(machinery, executor=executor), (), lambda sequence, token: False)
        finally:
            machinery.close()


def _plan_for(
    case: Case, files: ModelFiles, workload: Workload, profile: HardwareProfile, threads: int
) -> Plan:
    """The best plan but for its sweeps, which are those of the case."""
    request = planning_request([files], workload, profile, BUDGET_BYTES, threads=threads)
    rows = case.sequences * case.rows
    choice = choice_of(make_plan(request))
    of_case = replace(choice, sweep_tokens=rows, micro_batch_tokens=rows // case.micro_batches)
    return fixed_plan(request, of_case)


def _workload(case: Case, sweeps: int) -> tuple[Workload, list[int]]:
    """Decode, or prompts, for so many sweeps; with one of the prompts."""
    prompt, output = (1, sweeps) if case.rows == 1 else (case.rows * sweeps, 1)
    return Workload((prompt,) * case.sequences, (output,) * case.sequences), [1] * prompt


def _sequences(prompt: list[int], workload: Workload) -> list[Sequence]:
    return [
        Sequence(index, array("i", prompt), SamplingParams(max_tokens=length, ignore_eos=True))
        for index, length in enumerate(workload.output_lens)
    ]


def _step_s(engine: Engine, reads: MemoryReads, traffic: Traffic) -> float:
    reads.begin(traffic)
    start_s, streamed_s = time.perf_counter(), reads.seconds
    engine.step()
    return time.perf_counter() - start_s - (reads.seconds - streamed_s)
