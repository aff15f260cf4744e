"""Engines whose device is a stand-in: given rates, smallest budgets, what holds of each run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lm_offload import LLM, Plan, Workload
from lm_offload.errors import BudgetError
from lm_offload.hardware.machine_file import load_machine
from lm_offload.planner.plan_text import plan_text
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


def smallest_budgets(folder, prompts=PROMPTS, attention="device", **options) -> tuple[int, int]:
    """Bytes of the device and of the host that the error for hopeless budgets names."""
    workload = Workload(tuple(map(len, prompts)), (GREEDY.max_tokens,) * len(prompts))
    opened = open_on_device(folder, 1, 1, attention=attention, **options)
    with opened as llm, pytest.raises(BudgetError) as caught:
        llm.plan_for(workload)
    device, host = re.findall(r"(\d+) KiB", str(caught.value).split(";")[0])
    return int(device) << 10, int(host) << 10


def plan_within(folder, prompts, gpu_bytes: int, cpu_bytes: int, **options) -> Plan:
    """The plan of a run in these budgets, which gives the CPU's tokens and keeps to both."""
    with open_on_device(folder, gpu_bytes, cpu_bytes, **options) as llm:
        assert tokens_of(llm, prompts) == generate(folder, PLENTY, prompts)
        plan = llm.plan
    assert plan.used_bytes <= cpu_bytes
    assert plan.device.used_bytes <= gpu_bytes
    return plan


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
