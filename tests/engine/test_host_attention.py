"""The KV cache in host memory, attention on the CPU and all else on a stand-in: the same tokens."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings

from lm_offload import LLM, Workload
from lm_offload.errors import BudgetError, ConfigError
from lm_offload.planner.decided.plan_choice import choice_of
from tests.engine.device_harness import (
    PROMPTS,
    WORKLOAD,
    any_case,
    cpu_tokens,
    open_on_device,
    plan_of_case,
    saved_plan_runs_again,
    smallest_budgets,
    with_prompt_attention,
)
from tests.engine.harness import GREEDY, PLENTY, prompts_of, tokens_of
from tests.toy import DENSE_TYPES


@pytest.mark.parametrize("model_type", DENSE_TYPES)
def test_tokens_are_those_of_the_cpu(toy, model_type):
    folder = toy(model_type)
    with open_on_device(folder, PLENTY, attention="cpu") as llm:
        assert tokens_of(llm, PROMPTS) == cpu_tokens(folder, PROMPTS)
        assert dict(llm.plan.memory)["KV cache"] > 0
        assert "KV cache" not in dict(llm.plan.device.memory)
        assert llm.stats.decode[-1].time.attend_s > 0


@settings(max_examples=8)
@given(case=any_case("llama", "gemma3_text", "phi3"))
def test_any_budgets_and_any_batch(toy, case):
    plan_of_case(toy, case, attention="cpu")


@pytest.mark.parametrize(
    "option", [{"weight_format": "int4:32"}, {"kv_format": "int8"}, {"kv_format": "int4"}]
)
def test_formats(toy, option):
    folder = toy("llama", intermediate_size=96)
    with open_on_device(folder, PLENTY, attention="cpu", **option) as llm:
        tokens = tokens_of(llm, PROMPTS)
    assert tokens == cpu_tokens(folder, PROMPTS, **option)


@pytest.mark.parametrize("kv_format", ["bf16", "int8"])
@pytest.mark.parametrize("rows", [4, 119])
def test_whole_prompts_are_attended_to_on_the_device(toy, kv_format, rows):
    """Where that is faster; later sweeps find what was written back."""
    folder, options = toy("llama"), {"attention": "cpu", "kv_format": kv_format}
    prompts = prompts_of(40, 1, 61, 17)
    workload = Workload(tuple(map(len, prompts)), (GREEDY.max_tokens,) * len(prompts))
    machine = with_prompt_attention(cpu_flops=1e5, gpu_flops=1e12)
    with open_on_device(folder, PLENTY, **options) as llm:
        llm.profile = machine
        choice = replace(choice_of(llm.plan_for(workload)), micro_batch_tokens=rows)
    with open_on_device(folder, PLENTY, plan=choice, **options) as llm:
        llm.profile = machine
        assert tokens_of(llm, prompts) == cpu_tokens(folder, prompts, kv_format=kv_format)
        assert llm.plan.device.prompt_blocks > 0
        assert llm.read_sweep().total_s > 0
        assert tokens_of(llm, prompts[:1]) == cpu_tokens(folder, prompts[:1], kv_format=kv_format)


def test_where_the_device_is_slower_the_cpu_attends_to_prompts(toy):
    with open_on_device(toy("llama"), PLENTY, attention="cpu") as llm:
        llm.profile = with_prompt_attention(cpu_flops=1e12, gpu_flops=1e5)
        assert llm.plan_for(WORKLOAD).device.prompt_blocks == 0


def test_prefixes_are_shared_in_host_memory(toy):
    folder, begin = toy("llama"), list(range(3, 40))
    prompts = [[*begin, 7], [*begin, 9]]
    with open_on_device(folder, PLENTY, attention="cpu") as llm:
        for _ in range(2):
            assert tokens_of(llm, prompts) == cpu_tokens(folder, prompts)
        assert llm.stats.cached_tokens >= 64


def test_refused_pinning_changes_nothing(toy, monkeypatch):
    from lm_offload.device.stand_in import StandIn

    monkeypatch.setattr(StandIn, "pin", lambda self, memory: False)
    folder = toy("llama")
    with open_on_device(folder, PLENTY, attention="cpu") as llm:
        assert tokens_of(llm, PROMPTS) == cpu_tokens(folder, PROMPTS)


def test_the_link_can_be_measured_before_anything_is_computed(toy):
    folder = toy("llama")
    gpu_bytes, cpu_bytes = smallest_budgets(folder, attention="cpu")
    with open_on_device(folder, gpu_bytes, cpu_bytes, attention="cpu") as llm:
        llm.load(WORKLOAD)
        assert llm.read_sweep().read_bytes > 0
        assert tokens_of(llm, PROMPTS) == cpu_tokens(folder, PROMPTS)


def test_attention_is_where_it_is_predicted_to_be_faster(toy):
    folder = toy("llama")
    cpu, device = (smallest_budgets(folder, attention=it)[0] for it in ("cpu", "device"))
    assert cpu < device
    with open_on_device(folder, cpu, in_place="none") as llm:
        assert llm.plan_for(WORKLOAD).device.attention == "cpu"
    with open_on_device(folder, PLENTY) as llm:
        assert llm.plan_for(WORKLOAD).device.attention == "device"
    options = {"attention": "device", "in_place": "none"}
    with open_on_device(folder, cpu, **options) as llm, pytest.raises(BudgetError):
        llm.plan_for(WORKLOAD)


def test_a_saved_plan_runs_again(toy, tmp_path):
    folder, file = toy("llama"), tmp_path / "plan.yaml"
    saved_plan_runs_again(folder, file, PLENTY, attention="cpu")
    refused = pytest.raises(ConfigError, match="attention=device was given, the plan computes it")
    with open_on_device(folder, PLENTY, attention="device", plan=file) as llm, refused:
        llm.plan_for(WORKLOAD)
    file.write_text(re.sub("attention: cpu", "attention: disk", file.read_text()))
    with pytest.raises(ConfigError, match="device, cpu or both"):
        LLM(folder, cpu_memory=PLENTY, plan=file)


def test_places_that_do_not_exist_are_refused(toy):
    with pytest.raises(ConfigError, match="attention=cpu was given without GPU memory"):
        LLM(toy("llama"), cpu_memory=PLENTY, attention="cpu")
    with pytest.raises(ConfigError, match="allowed are auto, device and cpu"):
        open_on_device(toy("llama"), PLENTY, attention="disk")
