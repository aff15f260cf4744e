"""What the engine costs beside its kernels, from sweeps that have nothing to compute."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from lm_offload.engine.empty_sweeps import RUN_SWEEPS, run_sweeps_s
from lm_offload.engine.overhead import (
    DECODE,
    IN_CACHE,
    LARGE_TURN,
    MANY,
    MANY_DECODE,
    OTHER_KERNELS,
    RUNS,
    TASKS,
    with_overhead,
)
from lm_offload.engine.overhead_visits import SMALL_UNITS
from lm_offload.engine.prompt_cost import PromptCosts
from lm_offload.kernels.resolve import resolve_kernels
from lm_offload.units import MIB
from tests.hardware.test_profile_store import PROFILE

KERNELS = resolve_kernels(1)


def sweeps_s(case_s: dict[object, float]) -> dict[object, float]:
    """By layers 10 us a task where all is cached and 20 elsewhere; `case_s` goes on top."""
    found = {}
    for case, traffic in (*LARGE_TURN, *RUNS):
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


def test_every_sweep_of_a_run_of_an_empty_engine_is_timed() -> None:
    seconds = run_sweeps_s(DECODE, SMALL_UNITS, IN_CACHE, PROFILE, KERNELS, MIB)
    assert len(seconds) == RUN_SWEEPS
    assert min(seconds) > 0
