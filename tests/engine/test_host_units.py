"""MLPs computed on the CPU where they lie, in small sweeps, and all else on a stand-in."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lm_offload.planner.plan_text import choice_of
from tests.engine.harness import PLENTY, generate, tokens_of
from tests.engine.test_device import PROMPTS, WORKLOAD, open_on_device, smallest_budgets
from tests.toy import MODEL_TYPES


def in_place(plan, rows: int, every: int = 1):
    """The choice of a plan, with some of the MLPs in host memory computed there."""
    names = [name for name in plan.resident if name.endswith(".mlp")][::every]
    choice = choice_of(plan)
    return replace(choice, device=replace(choice.device, in_place=tuple(names), in_place_rows=rows))


@pytest.mark.parametrize("attention", ["device", "cpu"])
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_tokens_are_those_of_the_cpu(toy, model_type, attention):
    folder = toy(model_type)
    gpu_bytes = smallest_budgets(folder, attention=attention)[0] + (128 << 10)
    with open_on_device(folder, gpu_bytes, attention=attention) as llm:
        made = llm.plan_for(WORKLOAD)
    choice = in_place(made, rows=4)
    assert choice.device.in_place
    with open_on_device(folder, gpu_bytes, plan=choice) as llm:
        assert tokens_of(llm, PROMPTS) == generate(folder, PLENTY, PROMPTS)
        prefill, decode = llm.stats.prefill[0].time, llm.stats.decode[-1].time
        assert decode.attend_s > 0
        assert decode.h2d_bytes < prefill.h2d_bytes
