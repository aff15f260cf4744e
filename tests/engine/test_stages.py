"""Several devices, each with a stage of the model: the tokens of the CPU, however it is cut."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_offload import LLM, SamplingParams, Workload
from lm_offload.errors import BudgetError, ConfigError
from lm_offload.planner.plan_text import choice_of, plan_text
from tests.engine.harness import GREEDY, PLENTY, generate, prompts_of, tokens_of
from tests.engine.test_device import PROFILE, PROMPTS, STAND_IN, WORKLOAD, open_on_device
from tests.toy import MODEL_TYPES

TWO, THREE = ",".join([STAND_IN] * 2), ",".join([STAND_IN] * 3)


def smallest_budgets(folder, devices, prompts=PROMPTS) -> list[int]:
    """Bytes of each device and of the host that the error for hopeless budgets names."""
    workload = Workload(tuple(map(len, prompts)), (GREEDY.max_tokens,) * len(prompts))
    opened = open_on_device(folder, 1, 1, device=devices)
    with opened as llm, pytest.raises(BudgetError) as caught:
        llm.plan_for(workload)
    return [int(kib) << 10 for kib in re.findall(r"(\d+) KiB", str(caught.value).split(";")[0])]


def text_of(budgets) -> str:
    return ",".join(map(str, budgets))


@pytest.mark.parametrize("model_type", MODEL_TYPES)
@pytest.mark.parametrize("devices", [TWO, THREE])
def test_tokens_are_those_of_the_cpu(toy, model_type, devices):
    folder = toy(model_type)
    *gpus, cpu_bytes = smallest_budgets(folder, devices)
    wanted = generate(folder, PLENTY, PROMPTS)
    for budgets in ((text_of(gpus), cpu_bytes), (text_of(gpus), PLENTY), (PLENTY, cpu_bytes)):
        with open_on_device(folder, *budgets, device=devices) as llm:
            assert tokens_of(llm, PROMPTS) == wanted
            assert len(llm.plan.device.stages) == len(devices.split(","))
