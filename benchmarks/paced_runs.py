"""Runs of one workload with slices of the machine's pace between and within them.

::

    slices | prefill, decode, decode, ... | slices | prefill, decode, ... | slices

Short runs follow one another for half a second between two slices and count as one: slices pass
a gigabyte through the caches, and what comes right after them is slower than what a user sees.
Sweeps that the CPU binds are interrupted between two tasks for a slice, too, every half second, and
a long prompt is followed by slices; what they take is not counted. Sweeps that wait for the disk
are left alone: it would read ahead.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from benchmarks.engine_turns import engine_of, sequences_of
from benchmarks.pace_meter import Slice, is_steady
from benchmarks.slicing_executor import INTERVAL_S, SlicingExecutor, TakeSlice, side_of
from lm_offload import LLM
from lm_offload.engine.engine import Engine
from lm_offload.engine.outputs import SweepRecord
from lm_offload.plan import Plan, Workload
from lm_offload.step_time import StepTime

PHASES = ("prefill", "decode")
WAITING_FRAC = 0.02  # of a sweep, for the disk, by prediction: one that waits longer is left alone
RUNS_S = 4.0  # of all runs of a workload
MOST_RUNS = 12
MOST_AGAIN = 2  # more runs than fit, where none was steady
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


@dataclass(frozen=True)
class PacedRun:
    """Phases by PHASES; `steady` unless the machine changed its pace from one side to the other."""

    phases: Mapping[str, PacedPhase]
    steady: bool


@dataclass(frozen=True)
class _Sweep:
    record: SweepRecord  # its time without the slices
    slices: Sequence[Slice]


def paced_runs(
    llm: LLM, plan: Plan, workload: Workload, take_slice: TakeSlice
) -> Iterator[PacedRun]:
    """As many runs as fit RUNS_S, at least one; what a first one touches is touched before.

    Where none of them was steady there are MOST_AGAIN more at most. `take_slice(with_disk)` says
    the pace of the moment. Runs that follow one another without a slice between them are one.
    """
    with engine_of(llm, plan) as engine:
        slicing = SlicingExecutor(engine.machinery.executor, take_slice)
        engine.machinery = replace(engine.machinery, executor=slicing)
        short = plan.predicted.run_s <= LONG_RUN_S
        _run(engine, llm, workload if short else Workload((1,), (1,)), slicing, ())
        cpu_bound = [phase for phase in PHASES if _is_cpu_bound(plan, phase)]
        before, start_s, unsteady = side_of(take_slice), time.monotonic(), 0
        for done in range(MOST_RUNS):
            none_steady = unsteady == done <= MOST_AGAIN
            if done and not none_steady and time.monotonic() - start_s > RUNS_S:
                return
            sweeps = _runs(engine, llm, workload, slicing, cpu_bound)
            after = side_of(take_slice)
            steady = is_steady(before, after)
            unsteady += not steady
            yield PacedRun(
                {phase: _phase(phase, sweeps, before, after) for phase in PHASES}, steady
            )
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
    """Every sweep of the workload; phases that are not `interrupted` have no slices within.

    Those between the phases count for both.
    """
    sequences = sequences_of(
        llm, len(workload.prompt_lens), workload.prompt_lens[0], workload.output_lens[0]
    )
    engine.add(sequences)
    slicing.begin()
    sweeps, between = list[_Sweep](), list[Slice]()
    while engine.has_work:
        in_prompts = any(not sequence.output for sequence in sequences)
        slicing.enabled = ("prefill" if in_prompts else "decode") in interrupted
        engine.step()
        within, sliced_s = slicing.take()
        slices, between = [*between, *within], []
        if in_prompts and all(sequence.output for sequence in sequences):
            between = slicing.take_between()
            slices += between
        record = engine.records[-1]
        times = record.time.total_s, record.time.cpu_s
        total_s, cpu_s = (seconds - sliced_s for seconds in times)
        step = replace(record.time, total_s=total_s, cpu_s=cpu_s)
        sweeps.append(_Sweep(replace(record, time=step), slices))
    return sweeps


def _phase(
    phase: str, sweeps: Sequence[_Sweep], before: Sequence[Slice], after: Sequence[Slice]
) -> PacedPhase:
    """A sweep with any prompt token counts as prefill."""
    of_phase = [one for one in sweeps if bool(one.record.prefill_tokens) == (phase == "prefill")]
    return PacedPhase(
        sum(one.record.prefill_tokens or one.record.decode_tokens for one in of_phase),
        [one.record.time for one in of_phase],
        [*before, *after, *(taken for one in of_phase for taken in one.slices)],
    )
