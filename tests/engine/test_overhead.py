"""What the engine costs beside its kernels, from sweeps that have nothing to compute."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
from torch import Tensor

from lm_offload.engine import empty_sweeps, engine, memory_traffic, overhead
from lm_offload.engine.empty_sweeps import RUN_SWEEPS, run_sweeps_s
from lm_offload.engine.memory_traffic import Traffic
from lm_offload.engine.overhead import (
    CACHED_RUNS,
    DECODE,
    IN_CACHE,
    LARGE_TURN,
    LAYER_KERNELS,
    LAYER_TASKS,
    MANY,
    MANY_DECODE,
    OTHER_KERNELS,
    TASKS,
    USED_BYTES,
    visits_of,
    with_overhead,
)
from lm_offload.engine.overhead_visits import SMALL_UNITS
from lm_offload.engine.prompt_cost import PromptCosts
from lm_offload.hardware import timing
from lm_offload.hardware.processor import TINY_TASK_BYTES
from lm_offload.kernels.resolve import resolve_kernels
from lm_offload.pipeline import executor, progress, sweep_clock
from lm_offload.pipeline.executor import Executor
from lm_offload.pipeline.runner import ModelRunner
from lm_offload.schedule.task import Task
from lm_offload.sequence import Batch
from lm_offload.step_time import StepTime
from lm_offload.units import MIB
from tests.clock import fake_clock
from tests.hardware.profiles import TINY_EFFORT
from tests.hardware.test_profile_store import PROFILE

KERNELS = resolve_kernels(1)
TASK_S, JOINED_S, CALL_S, ROW_S, SWEEP_S = 10e-6, 1e-6, 3e-6, 2e-6, 500e-6
LAYER_CALLS = LAYER_KERNELS / LAYER_TASKS  # of a task that is not replayed


def sweeps_s(case_s: dict[object, float]) -> dict[object, float]:
    """By layers 10 us a task where all is cached and 20 elsewhere; `case_s` goes on top."""
    found = {}
    for case, traffic in (*LARGE_TURN, *CACHED_RUNS):
        task_s = 10e-6 if traffic == IN_CACHE else 20e-6
        found[case, traffic] = case_s.get(traffic, 1e-3) + 2 * case.layers * task_s
    found[MANY_DECODE, IN_CACHE] += (MANY - 1) * 5e-6
    return found


def test_a_profile_tells_the_sweep_of_a_run_that_it_was_made_from() -> None:
    seconds = sweeps_s({IN_CACHE: 0.3e-3})
    visits = SimpleNamespace(sweeps_s=seconds, prompt_costs=PromptCosts(0.0, 0.0))
    cpu = with_overhead(PROFILE, KERNELS, visits).cpu
    assert cpu.sequence_s == pytest.approx(5e-6)
    assert cpu.tiny_task_s == pytest.approx(10e-6)
    kernels_s = OTHER_KERNELS * (cpu.call_s or cpu.kernel_s)
    beside_s = cpu.cached_overhead_frac * (cpu.sweep_s + kernels_s)
    told_s = beside_s + TASKS * cpu.tiny_task_s + cpu.sequence_s
    assert told_s == pytest.approx(seconds[DECODE, IN_CACHE])


def test_a_profile_tells_the_sweeps_that_use_more_bytes() -> None:
    seconds = sweeps_s({IN_CACHE: 0.3e-3})
    for used_bytes, slower_s in ((16 * MIB, 0.1e-3), (32 * MIB, 0.05e-3), (64 * MIB, 0.4e-3)):
        traffic = Traffic(TINY_TASK_BYTES, used_bytes - USED_BYTES, used_bytes)
        seconds[DECODE, traffic] = seconds[DECODE, IN_CACHE] + slower_s
    visits = SimpleNamespace(sweeps_s=seconds, prompt_costs=PromptCosts(0.0, 0.0))
    cpu = with_overhead(PROFILE, KERNELS, visits).cpu
    curve = cpu.sweep_by_bytes_s
    assert curve is not None
    assert curve.sizes == (USED_BYTES, 16 * MIB, 32 * MIB, 64 * MIB)
    assert curve.rates[0] == pytest.approx(cpu.cached_overhead_frac * cpu.sweep_s)
    slower_s = [rate - curve.rates[0] for rate in curve.rates]
    assert slower_s == pytest.approx([0.0, 0.1e-3, 0.1e-3, 0.4e-3])  # 32 MiB take no less


def test_sweeps_that_use_more_bytes_are_run_up_to_what_the_probe_reads(monkeypatch) -> None:
    monkeypatch.setattr(overhead, "last_level_cache_bytes", lambda: 40 * MIB)
    effort = replace(TINY_EFFORT, cache_fracs=(0.05, 0.5, 1.0, 2.0))
    for memory_bytes, sizes in ((1 << 30, [20 * MIB, 40 * MIB]), (32 * MIB, [20 * MIB])):
        runs = visits_of(KERNELS, memory_bytes, effort)._runs
        used = [USED_BYTES + traffic.sweep_bytes for _, traffic in runs if traffic != IN_CACHE]
        assert used == sizes


def test_a_sweep_that_took_less_than_its_tasks_is_no_curve_below_zero() -> None:
    seconds = {**sweeps_s({}), (DECODE, IN_CACHE): 1e-9}
    visits = SimpleNamespace(sweeps_s=seconds, prompt_costs=PromptCosts(0.0, 0.0))
    curve = with_overhead(PROFILE, KERNELS, visits).cpu.sweep_by_bytes_s
    assert curve is not None
    assert min(curve.rates) > 0


def test_sampling_is_measured_however_long_its_first_calls_take(monkeypatch) -> None:
    clock, rate = fake_clock(monkeypatch, timing), 2e9

    def slow_likeliest(logits: Tensor) -> list[int]:
        clock.sleep(overhead.SAMPLING_BUDGET_S + logits.numel() / rate)
        return [0] * len(logits)

    monkeypatch.setattr(overhead, "likeliest_of", slow_likeliest)
    visits = SimpleNamespace(sweeps_s=sweeps_s({}), prompt_costs=PromptCosts(0.0, 0.0))
    cpu = with_overhead(PROFILE, KERNELS, visits).cpu
    assert cpu.sampled_values_per_s == pytest.approx(rate)


def test_every_sweep_of_a_run_of_an_empty_engine_is_timed() -> None:
    seconds = run_sweeps_s(DECODE, SMALL_UNITS, IN_CACHE, PROFILE, KERNELS, MIB)
    assert len(seconds) == RUN_SWEEPS
    assert min(seconds) > 0


def with_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine whose tasks, calls of kernels, rows and sweeps take so long, and nothing else."""
    modules = (engine, empty_sweeps, memory_traffic, executor, progress, sweep_clock)
    clock = fake_clock(monkeypatch, *modules)
    compute, run = ModelRunner.compute, ModelRunner.run

    def slow_compute(self: ModelRunner, task: Task) -> None:
        compute(self, task)
        if self._may_repeat:
            clock.sleep(TASK_S + (task.units - 1) * JOINED_S)
        else:
            clock.sleep(task.units * (JOINED_S + LAYER_CALLS * CALL_S))

    def slow_run(self: ModelRunner, batch: Batch, executor: Executor) -> tuple[Tensor, StepTime]:
        clock.sleep(SWEEP_S + batch.num_tokens * ROW_S)
        return run(self, batch, executor)

    monkeypatch.setattr(ModelRunner, "compute", slow_compute)
    monkeypatch.setattr(ModelRunner, "run", slow_run)


@pytest.mark.skipif(KERNELS.record() is None, reason="nothing is replayed without native kernels")
def test_what_the_engine_takes_is_found_in_its_sweeps(monkeypatch) -> None:
    with_costs(monkeypatch)
    visits = visits_of(KERNELS, 4 * MIB, TINY_EFFORT)
    visits.visit()
    cpu = with_overhead(PROFILE, KERNELS, visits).cpu
    assert [cpu.tiny_task_s, cpu.task_s, cpu.large_task_s] == pytest.approx([TASK_S] * 3)
    assert cpu.joined_task_s == pytest.approx(JOINED_S)
    assert cpu.call_s == pytest.approx(CALL_S)
    assert cpu.sequence_s == pytest.approx(ROW_S)  # each has a row
    assert cpu.row_s == pytest.approx(ROW_S)
    assert cpu.sweep_s == pytest.approx(SWEEP_S - OTHER_KERNELS * CALL_S)
    assert cpu.sampled_values_per_s > 0
