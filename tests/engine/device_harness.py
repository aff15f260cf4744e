"""Engines whose device is a stand-in: given rates, smallest budgets, what holds of each run."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from hypothesis import strategies as st

from lm_offload import LLM, Plan, Workload
from lm_offload.errors import BudgetError
from lm_offload.hardware.curve import Curve
from lm_offload.hardware.machine_file import load_machine
from lm_offload.hardware.profile import HardwareProfile
from lm_offload.planner.decided.plan_choice import PlanChoice, choice_of
from lm_offload.planner.decided.plan_text import plan_text
from lm_offload.units import MIB, PAGE_BYTES
from tests.engine.harness import GREEDY, PLENTY, generate, prompts_of, tokens_of

PROFILE = load_machine(Path(__file__).parents[1] / "device_machine.yaml")
PROMPTS = prompts_of(5, 1, 34, 17)
WORKLOAD = Workload(tuple(map(len, PROMPTS)), (GREEDY.max_tokens,) * len(PROMPTS))
STAND_IN = "standin:2GB/s"


def open_on_device(folder, gpu_memory, cpu_memory=PLENTY, device=STAND_IN, **options) -> LLM:
    """An engine whose device is the stand-in; it takes the machine as given."""
    llm = LLM(
        folder, cpu_memory=cpu_memory, gpu_memory=gpu_memory, device=device, threads=1, **options
    )
    llm.profile = PROFILE
    return llm


def smallest_budgets(folder, prompts=PROMPTS, attention="device", **options) -> list[int]:
    """Bytes of each device and of the host that the error for hopeless budgets names."""
    workload = Workload(tuple(map(len, prompts)), (GREEDY.max_tokens,) * len(prompts))
    opened = open_on_device(folder, 1, 1, attention=attention, **options)
    with opened as llm, pytest.raises(BudgetError) as caught:
        llm.plan_for(workload)
    return [int(kib) << 10 for kib in re.findall(r"(\d+) KiB", str(caught.value).split(";")[0])]


def cpu_tokens(folder: Path, prompts: list[list[int]], **options: str) -> list[list[int]]:
    """The tokens that the CPU alone gives; what tests ask for again is not computed again."""
    return _cpu_tokens(folder, tuple(map(tuple, prompts)), tuple(sorted(options.items())))


@cache
def _cpu_tokens(
    folder: Path, prompts: tuple[tuple[int, ...], ...], options: tuple[tuple[str, str], ...]
) -> list[list[int]]:
    return generate(folder, PLENTY, list(map(list, prompts)), **dict(options))


def plan_within(folder, prompts, gpu_bytes: int, cpu_bytes: int, **options) -> Plan:
    """The plan of a run in these budgets, which gives the CPU's tokens and keeps to both."""
    with open_on_device(folder, gpu_bytes, cpu_bytes, **options) as llm:
        assert tokens_of(llm, prompts) == cpu_tokens(folder, prompts)
        plan = llm.plan
    assert plan.used_bytes <= cpu_bytes
    assert plan.device.used_bytes <= gpu_bytes
    return plan


class Case(NamedTuple):
    """A model, prompts of these lengths, and bytes beyond the smallest budgets."""

    dtype: torch.dtype
    model_type: str
    more_gpu: int
    more_cpu: int
    lengths: list[int]


def any_case(*model_types: str) -> st.SearchStrategy[Case]:
    """Cases of one of these models."""
    return st.builds(
        Case,
        dtype=st.sampled_from([torch.float32, torch.bfloat16]),
        model_type=st.sampled_from(model_types),
        more_gpu=st.integers(0, 1 << 19),
        more_cpu=st.integers(0, 1 << 19),
        lengths=st.lists(st.integers(1, 60), min_size=1, max_size=6),
    )


def plan_of_case(toy, case: Case, **options: str) -> Plan:
    """See `plan_within`."""
    folder, prompts = toy(case.model_type, dtype=case.dtype), prompts_of(*case.lengths)
    gpu_bytes, cpu_bytes = smallest_budgets(folder, prompts, **options)
    budgets = gpu_bytes + case.more_gpu, cpu_bytes + case.more_cpu
    return plan_within(folder, prompts, *budgets, **options)


def on_all_tiers(plan: Plan) -> PlanChoice:
    """The choice of a plan, its units on the device, in host memory and on disk in turn."""
    choice, names = choice_of(plan), [*plan.device.resident, *plan.resident, *plan.streamed]
    first, second, third = (tuple(names[tier::3]) for tier in range(3))
    there = {"ring": 2 * MIB, "in_place": (), "in_place_rows": 0}
    stages = tuple(
        replace(it, resident=tuple(name for name in it.resident if name in first), ring=2 * MIB)
        for it in choice.device.stages
    )
    device = replace(choice.device, resident=first, stages=stages, **there)
    return replace(choice, resident=second, streamed=third, ring=2 * MIB, device=device)


def small_sweeps(llm: LLM, rows: int) -> list[bool]:
    """Which sweeps of a run have at most so many rows; of requests that share nothing."""
    return [it.prefill_tokens + it.decode_tokens <= rows for it in llm.stats.sweeps]


def check_every_sweep_moved(moved: Iterable[int], sweep_bytes: int) -> None:
    """Each sweep of a run, but for what was there before the first and is ahead of the last."""
    found = list(moved)
    least_bytes = (len(found) - 1) * (sweep_bytes - PAGE_BYTES)  # the file ends inside a page
    assert 0 < least_bytes <= sum(found) <= (len(found) + 1) * sweep_bytes


def saved_plan_runs_again(
    folder, file: Path, gpu_memory, cpu_memory=PLENTY, **options
) -> tuple[Plan, Plan]:
    """Two plans that give the same tokens: one made for the budgets, one read from `file`."""
    with open_on_device(folder, gpu_memory, cpu_memory, **options) as llm:
        wanted, made = tokens_of(llm, PROMPTS), llm.plan
        assert llm.predicted(WORKLOAD) == made.predicted
    file.write_text(plan_text(made, "toy"))
    with LLM(folder, cpu_memory=PLENTY, threads=1, plan=file) as llm:
        llm.profile = PROFILE
        assert tokens_of(llm, PROMPTS) == wanted
        assert llm.plan.device == made.device
        return made, llm.plan


def with_prompt_attention(cpu_flops: float, gpu_flops: float) -> HardwareProfile:
    """The machine of these tests with such rates."""
    cpu, gpu = (
        replace(processor, prefill_attention_flops={"bf16": Curve((1.0,), (flops,))})
        for processor, flops in ((PROFILE.cpu, cpu_flops), (PROFILE.gpu, gpu_flops))
    )
    return replace(PROFILE, cpu=cpu, gpu=gpu)
