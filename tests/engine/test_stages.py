"""Several devices, each with a stage of the model: the tokens of the CPU, however it is cut."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_offload import LLM, SamplingParams
from lm_offload.device.no_memory import no_memory
from lm_offload.device.stand_in import StandIn
from lm_offload.errors import ConfigError
from lm_offload.planner.decided.plan_choice import choice_of, joined
from lm_offload.planner.decided.plan_text import plan_text, read_plan
from tests.engine.device_harness import (
    PROFILE,
    PROMPTS,
    STAND_IN,
    WORKLOAD,
    check_every_sweep_moved,
    cpu_tokens,
    on_all_tiers,
    open_on_device,
    smallest_budgets,
)
from tests.engine.harness import PLENTY, prompts_of, tokens_of
from tests.toy import DENSE_TYPES

TWO, THREE = ",".join([STAND_IN] * 2), ",".join([STAND_IN] * 3)


def text_of(budgets) -> str:
    return ",".join(map(str, budgets))


CASES = [*((name, TWO) for name in DENSE_TYPES), ("llama", THREE), ("gemma3_text", THREE)]


@pytest.mark.parametrize(("model_type", "devices"), CASES)
def test_tokens_are_those_of_the_cpu(toy, model_type, devices):
    folder = toy(model_type)
    *gpus, cpu_bytes = smallest_budgets(folder, device=devices)
    budgets = text_of(size + (160 << 10) for size in gpus)
    with open_on_device(folder, budgets, cpu_bytes + (100 << 10), device=devices) as llm:
        assert tokens_of(llm, PROMPTS) == cpu_tokens(folder, PROMPTS)
        assert len(llm.plan.device.stages) == len(gpus)


def test_all_three_tiers_hold_units(toy):
    folder = toy("llama", num_hidden_layers=6)
    with open_on_device(folder, PLENTY, device=TWO) as llm:
        choice = on_all_tiers(llm.plan_for(WORKLOAD))
    with open_on_device(folder, PLENTY, device=TWO, plan=choice) as llm:
        assert tokens_of(llm, PROMPTS) == cpu_tokens(folder, PROMPTS)
        plan, times = llm.plan, [sweep.time for sweep in llm.stats.sweeps]
    check_every_sweep_moved((time.read_bytes for time in times), plan.streamed_bytes)
    check_every_sweep_moved((time.h2d_bytes for time in times), plan.device.uploaded_bytes)
    for number, stage in enumerate(plan.device.stages):
        assert any(".mlp" in name or ".attention" in name for name in stage.resident)
        devices = [time.devices[number] for time in times]
        check_every_sweep_moved((it.h2d_bytes for it in devices), stage.uploaded_bytes)
        assert sum(it.gpu_s for it in devices) > 0


IN_TURN = (("embed", "layers.2.attention"), ("layers.1.attention", "layers.3.attention"))
BACK = (("embed", "layers.3.attention"), ("layers.1.attention",))  # ends on the first device


@pytest.mark.parametrize("begins", [IN_TURN, BACK])
@pytest.mark.parametrize("rows", [3, 57])
def test_devices_take_turns_by_layers(toy, tmp_path, begins, rows):
    folder, file = toy("llama", num_hidden_layers=4), tmp_path / "plan.yaml"
    with open_on_device(folder, PLENTY, device=TWO) as llm:
        choice = on_all_tiers(llm.plan_for(WORKLOAD))
    stages = (
        replace(it, begins=names) for it, names in zip(choice.device.stages, begins, strict=True)
    )
    choice = replace(choice, device=joined([*stages]), micro_batch_tokens=rows)
    with open_on_device(folder, PLENTY, device=TWO, plan=choice) as llm:
        assert tokens_of(llm, PROMPTS) == cpu_tokens(folder, PROMPTS)
        assert llm.read_sweep().total_s > 0
        plan, times = llm.plan, [sweep.time for sweep in llm.stats.sweeps]
    assert tuple(stage.begins for stage in plan.device.stages) == begins
    for number, stage in enumerate(plan.device.stages):
        moved = (time.devices[number].h2d_bytes for time in times)
        check_every_sweep_moved(moved, stage.uploaded_bytes)
    file.write_text(plan_text(plan, "toy"))
    assert read_plan(file) == choice_of(plan)


@settings(max_examples=4)
@given(
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    model_type=st.sampled_from(["llama", "gemma3_text", "opt"]),
    more_gpu=st.tuples(st.integers(1 << 17, 1 << 19), st.integers(1 << 17, 1 << 19)),
    more_cpu=st.integers(1 << 17, 1 << 19),
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=6),
)
def test_any_budgets_and_any_batch(toy, dtype, model_type, more_gpu, more_cpu, lengths):
    folder, prompts = toy(model_type, dtype=dtype), prompts_of(*lengths)
    *gpus, cpu_bytes = smallest_budgets(folder, prompts, device=TWO)
    budgets = [least + more for least, more in zip(gpus, more_gpu, strict=True)]
    with open_on_device(folder, text_of(budgets), cpu_bytes + more_cpu, device=TWO) as llm:
        assert tokens_of(llm, prompts) == cpu_tokens(folder, prompts)
        plan = llm.plan
    assert plan.used_bytes <= cpu_bytes + more_cpu
    for stage, budget_bytes in zip(plan.device.stages, budgets, strict=True):
        assert stage.used_bytes <= stage.budget_bytes == budget_bytes


@pytest.mark.parametrize("rows", [1, 2, 16])
def test_micro_batches_of_any_size(toy, rows):
    folder = toy("llama")
    with open_on_device(folder, PLENTY, device=THREE) as llm:
        choice = replace(choice_of(llm.plan_for(WORKLOAD)), micro_batch_tokens=rows)
    with open_on_device(folder, PLENTY, device=THREE, plan=choice) as llm:
        assert tokens_of(llm, PROMPTS) == cpu_tokens(folder, PROMPTS)
        assert tokens_of(llm, PROMPTS[:1]) == cpu_tokens(folder, PROMPTS[:1])
        assert llm.read_sweep().total_s > 0


@pytest.mark.parametrize("option", [{"weight_format": "int4:32"}, {"kv_format": "int8"}])
def test_formats(toy, option):
    folder = toy("llama", intermediate_size=96)
    with open_on_device(folder, PLENTY, device=TWO, **option) as llm:
        tokens = tokens_of(llm, PROMPTS)
    assert tokens == cpu_tokens(folder, PROMPTS, **option)


def test_prefixes_are_shared_and_sequences_preempted(toy):
    folder, begin = toy("llama"), list(range(3, 40))
    prompts = [[*begin, 7], [*begin, 9]]
    with open_on_device(folder, PLENTY, device=TWO) as llm:
        assert tokens_of(llm, prompts) == cpu_tokens(folder, prompts)
        made = llm.plan_for(WORKLOAD)
    sizes = {"sweep_tokens": 64, "micro_batch_tokens": 16, "max_sequences": 2, "kv_blocks": 8}
    plan, more = replace(choice_of(made), spare_sequences=5, **sizes), prompts_of(*[20, 31, 7] * 4)
    params = SamplingParams(max_tokens=60, temperature=1.0, stop_token_ids=(3, 4, 5))
    with open_on_device(folder, PLENTY, device=TWO, plan=plan) as llm:
        found = tokens_of(llm, more, params)
        assert llm.stats.preemptions > 0
    with open_on_device(folder, PLENTY) as llm:
        assert found == tokens_of(llm, more, params)


def test_a_saved_plan_runs_again(toy, tmp_path):
    folder, file = toy("llama"), tmp_path / "plan.yaml"
    budgets = text_of(size + (150 << 10) for size in smallest_budgets(folder, device=TWO)[:-1])
    with open_on_device(folder, budgets, device=TWO) as llm:
        wanted, made = tokens_of(llm, PROMPTS), llm.plan
    text = plan_text(made, "toy")
    file.write_text(text)
    with LLM(folder, cpu_memory=PLENTY, threads=1, plan=file) as llm:
        llm.profile = PROFILE
        assert tokens_of(llm, PROMPTS) == wanted
        assert llm.plan.device == made.device
    begins = re.search(r"begins: (layers\S+attention)", text)[1]
    file.write_text(text.replace(f"begins: {begins}", "begins: layers.0.mlp"))
    with LLM(folder, cpu_memory=PLENTY, threads=1, plan=file) as llm:
        llm.profile = PROFILE
        with pytest.raises(ConfigError, match=r"stages begin at embed, layers.0.mlp, allowed are"):
            llm.plan_for(WORKLOAD)
    with pytest.raises(ConfigError, match="for 2 device"):
        open_on_device(folder, PLENTY, plan=choice_of(made)).plan_for(WORKLOAD)


@pytest.mark.parametrize(
    ("devices", "memory", "wanted"),
    [
        ("cuda:0,cuda:0", "1GiB", "more than once"),
        ("cuda,cuda:0", "1GiB", "more than once"),
        (f"cuda:0,{STAND_IN}", "1GiB", "different kinds"),
        (TWO, "1MiB,1MiB,1MiB", r"3 GPU memory budgets were given for 2 device"),
        (STAND_IN, "1MiB,1MiB", r"2 GPU memory budgets were given for 1 device"),
        (TWO, "1MiB,9GiB", "9GiB"),
    ],
)
def test_devices_that_cannot_work_together(toy, devices, memory, wanted):
    with pytest.raises(ConfigError, match=wanted):
        open_on_device(toy("llama"), memory, device=devices)


@pytest.mark.parametrize(
    ("name", "value"), [("attention", "cpu"), ("in_place", "mlp"), ("in_place", "layers")]
)
def test_what_several_devices_do_not_do_is_refused(toy, name, value):
    with pytest.raises(ConfigError, match=f"{name}={value} was given with 2 devices"):
        open_on_device(toy("llama"), PLENTY, device=TWO, **{name: value})


def test_budgets_in_the_spelling_of_accelerate(toy):
    budgets = {STAND_IN: "8MiB", "standin:1GB/s": 9 << 20, "cpu": PLENTY}
    with LLM(toy("llama"), max_memory=budgets, threads=1) as llm:
        found = [(part.name, part.budget_bytes) for part in llm.device.stages]
    assert found == [(STAND_IN, 8 << 20), ("standin:1GB/s", 9 << 20)]


def test_a_device_without_memory_is_planned_for_again(toy, monkeypatch):
    folder, tier, refused = toy("llama"), StandIn.tier, [True]

    def refusing(device, capacity_bytes):
        if refused and device.name.startswith("standin:1GB"):
            refused.pop()
            raise no_memory("weights and cache", 300 << 10)
        return tier(device, capacity_bytes)

    monkeypatch.setattr(StandIn, "tier", refusing)
    options = {"device": f"{STAND_IN},standin:1GB/s", "on_oom": "replan"}
    with open_on_device(folder, "8MiB", **options) as llm:
        assert tokens_of(llm, PROMPTS) == cpu_tokens(folder, PROMPTS)
        assert all(it.budget_bytes <= (8 << 20) - (300 << 10) for it in llm.plan.device.stages)
