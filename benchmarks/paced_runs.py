"""Runs of one workload with slices of the machine's pace between and within them.

::

    slice | prefill, decode, decode, ... | slice | prefill, decode, ... | slice

Short runs follow one another for half a second between two slices and count as one: slices pass
a gigabyte through the caches, and what comes right after them is slower than what a user sees.
Sweeps that the CPU binds are interrupted between two tasks for slices, too, every half second; what
a slice takes is not counted. Sweeps that wait for the disk are left alone: it would read ahead.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from benchmarks.engine_turns import engine_of, sequences_of
from benchmarks.machine_pace import Slice
from lm_offload import LLM
from lm_offload.engine.engine import Engine
from lm_offload.engine.outputs import SweepRecord
from lm_offload.pipeline.executor import NOTHING_STAGED, Compute, Executor
from lm_offload.plan import Plan, Workload
from lm_offload.schedule.kv_staging import Groups
from lm_offload.schedule.task import Task
from lm_offload.step_time import StepTime

TakeSlice = Callable[[bool], Slice]  # with the disk or without
PHASES = ("prefill", "decode")
INTERVAL_S = 0.5  # between slices
WAITING_FRAC = 0.02  # of a sweep, for the disk, by prediction: one that waits longer is left alone
RUNS_S = 4.0  # of all runs of a workload
MOST_RUNS = 12
LONG_RUN_S = 3.0  # a longer one is warmed up by a run of one token, others by themselves


@dataclass(frozen=True)
class PacedPhase:
    """The sweeps of one phase of a run without their slices, and what slices tell its pace."""

    tokens: int
    sweeps: Sequence[StepTime]
    slices: Sequence[Slice]

    @property
    def tokens_per_s(self) -> float:
        """Over the seconds of its sweeps; 0 where it has none."""
        seconds = sum(sweep.total_s for sweep in self.sweeps)
        return self.tokens / seconds if seconds else 0.0


PacedRun = dict[str, PacedPhase]  # by PHASES


@dataclass(frozen=True)
class _Sweep:
    record: SweepRecord  # its time without the slices
    slices: Sequence[Slice]


def paced_runs(
    llm: LLM, plan: Plan, workload: Workload, take_slice: TakeSlice
) -> Iterator[PacedRun]:
    """As many runs as fit RUNS_S, at least one; what a first one touches is touched before.

    `take_slice(with_disk)` says the pace of the moment. Runs that follow one another without a
    slice between them are one.
    """
    with engine_of(llm, plan) as engine:
        slicing = SlicingExecutor(engine.machinery.executor, take_slice)
        engine.machinery = replace(engine.machinery, executor=slicing)
        short = plan.predicted.run_s <= LONG_RUN_S
        _run(engine, llm, workload if short else Workload((1,), (1,)), slicing, ())
        cpu_bound = [phase for phase in PHASES if _is_cpu_bound(plan, phase)]
        before, start_s = take_slice(True), time.monotonic()
        for done in range(MOST_RUNS):
            if done and time.monotonic() - start_s > RUNS_S:
                return
            sweeps = _runs(engine, llm, workload, slicing, cpu_bound)
            after = take_slice(True)
            yield {phase: _phase(phase, sweeps, (before, after)) for phase in PHASES}
            before = after


def _is_cpu_bound(plan: Plan, phase: str) -> bool:
    """Whether a sweep may be interrupted without gaining from it."""
    sweep = plan.predicted.step_s[phase]
    return sweep.wait_s <= WAITING_FRAC * sweep.total_s


def _runs(
    engine: Engine,
    llm: LLM,
    workload: Workload,
    slicing: SlicingExecutor,
    interrupted: Sequence[str],
) -> list[_Sweep]:
    """The sweeps of as many runs as fit INTERVAL_S, at least one."""
    sweeps, start_s = list[_Sweep](), time.monotonic()
    while not sweeps or time.monotonic() - start_s < INTERVAL_S:
        sweeps += _run(engine, llm, workload, slicing, interrupted)
    return sweeps


def _run(
    engine: Engine,
    llm: LLM,
    workload: Workload,
    slicing: SlicingExecutor,
    interrupted: Sequence[str],
) -> list[_Sweep]:
    """Every sweep of the workload; phases that are not `interrupted` have no slices."""
    sequences = sequences_of(
        llm, len(workload.prompt_lens), workload.prompt_lens[0], workload.output_lens[0]
    )
    engine.add(sequences)
    slicing.begin()
    sweeps = []
    while engine.has_work:
        in_prompts = any(not sequence.output for sequence in sequences)
        slicing.enabled = ("prefill" if in_prompts else "decode") in interrupted
        engine.step()
        slices, sliced_s = slicing.take()
        record = engine.records[-1]
        times = record.time.total_s, record.time.cpu_s
        total_s, cpu_s = (seconds - sliced_s for seconds in times)
        step = replace(record.time, total_s=total_s, cpu_s=cpu_s)
        sweeps.append(_Sweep(replace(record, time=step), slices))
    return sweeps


def _phase(phase: str, sweeps: Sequence[_Sweep], around: Sequence[Slice]) -> PacedPhase:
    """A sweep with any prompt token counts as prefill."""
    of_phase = [one for one in sweeps if bool(one.record.prefill_tokens) == (phase == "prefill")]
    return PacedPhase(
        sum(one.record.prefill_tokens or one.record.decode_tokens for one in of_phase),
        [one.record.time for one in of_phase],
        [*around, *(taken for one in of_phase for taken in one.slices)],
    )


class SlicingExecutor:
    """An executor that takes a slice after a compute task where the last one is long ago."""

    def __init__(self, inner: Executor, take_slice: TakeSlice) -> None:
        self.enabled = False
        self._inner = inner
        self._take_slice = take_slice
        self._slices: list[Slice] = []
        self._sliced_s = 0.0
        self._last_s = time.perf_counter()

    def run_sweep(
        self, micro_batches: Sequence[int], compute: Compute, groups: Groups = NOTHING_STAGED
    ) -> StepTime:
        """See `Executor.run_sweep`; the seconds include those of slices, `cpu_s` too."""

        def compute_and_slice(task: Task) -> None:
            compute(task)
            if self.enabled and time.perf_counter() - self._last_s > INTERVAL_S:
                self._slice()

        return self._inner.run_sweep(micro_batches, compute_and_slice, groups)

    def begin(self) -> None:
        """A run begins, right after a slice: short ones are not interrupted."""
        self._last_s = time.perf_counter()

    def take(self) -> tuple[list[Slice], float]:
        """The slices since the last call, and their seconds."""
        taken = self._slices, self._sliced_s
        self._slices, self._sliced_s = [], 0.0
        return taken

    def close(self) -> None:
        """See `Executor.close`."""
        self._inner.close()

    def _slice(self) -> None:
        start_s = time.perf_counter()
        self._slices.append(self._take_slice(False))
        self._last_s = time.perf_counter()
        self._sliced_s += self._last_s - start_s
