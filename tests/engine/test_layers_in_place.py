"""Whole layers computed on the CPU where they lie, in small sweeps, and all else on a stand-in."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_offload import SamplingParams, Workload
from lm_offload.planner.decided.plan_choice import choice_of
from tests.engine.device_harness import (
    PROMPTS,
    WORKLOAD,
    any_case,
    cpu_tokens,
    open_on_device,
    plan_of_case,
    saved_plan_runs_again,
    small_sweeps,
    smallest_budgets,
)
from tests.engine.harness import open_llm, prompts_of, tokens_of
from tests.toy import DENSE_TYPES

GPU_BYTES = 8 << 20  # more than enough for every toy


def with_layers(plan, layers, rows=4, kinds=("attention", "mlp"), **sizes):
    """The choice of a plan with all on the device but some layers, which are in place."""
    names = [*plan.device.resident, *plan.resident, *plan.streamed]
    units = tuple(name for name in names if ".".join(name.split(".")[:2]) in layers)
    device = replace(
        choice_of(plan).device,
        resident=tuple(name for name in names if name not in units),
        ring=GPU_BYTES // 4,
        in_place=tuple(name for name in units if name.split(".")[-1] in kinds),
        in_place_rows=rows,
    )
    return replace(choice_of(plan), device=device, resident=units, streamed=(), **sizes)


def planned(folder, attention="device", workload=WORKLOAD):
    with open_on_device(folder, 2 * GPU_BYTES, attention=attention) as llm:
        return llm.plan_for(workload)


def layers_of(plan):
    names = [*plan.device.resident, *plan.resident, *plan.streamed]
    return list(dict.fromkeys(".".join(it.split(".")[:2]) for it in names if "layers." in it))


@pytest.mark.parametrize("attention", ["device", "cpu"])
@pytest.mark.parametrize("model_type", DENSE_TYPES)
def test_tokens_are_those_of_the_cpu(toy, model_type, attention):
    folder = toy(model_type)
    plan = planned(folder, attention)
    choice = with_layers(plan, layers_of(plan)[::2])
    with open_on_device(folder, 2 * GPU_BYTES, plan=choice) as llm:
        assert tokens_of(llm, PROMPTS) == cpu_tokens(folder, PROMPTS)
        decode, prefill = llm.stats.decode[-1].time, llm.stats.prefill[0].time
        assert 0 == decode.h2d_bytes < prefill.h2d_bytes
        assert decode.attend_s > 0
        assert prefill.attend_s > 0
        made = llm.plan
    on_host, on_device = dict(made.memory)["KV cache"], dict(made.device.memory).get("KV cache", 0)
    assert on_host > 0
    assert bool(on_device) == (attention == "device")


@settings(max_examples=5)
@given(case=any_case("llama", "gemma3_text", "opt"), attention=st.sampled_from(["device", "cpu"]))
def test_any_budgets_and_any_batch(toy, case, attention):
    plan_of_case(toy, case, attention=attention, in_place="layers")


@pytest.mark.parametrize("rows", [1, 3, 8])
@pytest.mark.parametrize("kinds", [("attention",), ("attention", "mlp")])
def test_prompts_in_pieces_and_decode_take_turns(toy, rows, kinds):
    folder = toy("llama")
    plan = planned(folder)
    sizes = {"sweep_tokens": 8, "max_sequences": 3, "micro_batch_tokens": 2}
    choice = with_layers(plan, layers_of(plan)[1:], rows, kinds, **sizes)
    with open_on_device(folder, 2 * GPU_BYTES, plan=choice) as llm:
        for _ in range(2):
            assert tokens_of(llm, PROMPTS) == cpu_tokens(folder, PROMPTS)
        small, sweeps = small_sweeps(llm, rows), llm.stats.sweeps
    moved = [(now, sweep.time.h2d_bytes) for now, sweep in zip(small, sweeps, strict=True)]
    for (before, earlier_bytes), (now, moved_bytes) in pairwise(moved):
        if now and "mlp" in kinds:  # MLPs beside attention in place are uploaded
            assert moved_bytes == 0 or not before  # or queued for another large one
        else:
            assert earlier_bytes + moved_bytes > 0  # some of it a sweep ahead


@pytest.mark.parametrize("option", [{"weight_format": "int4:32"}, {"kv_format": "int8"}])
def test_formats(toy, option):
    folder = toy("llama", intermediate_size=96)
    options = {"in_place": "layers", "attention": "device", **option}
    gpu_bytes, _ = smallest_budgets(folder, **options)
    with open_on_device(folder, gpu_bytes + (32 << 10), **options) as llm:
        tokens = tokens_of(llm, PROMPTS)
        assert any(name.endswith(".attention") for name in llm.plan.device.in_place)
    assert tokens == cpu_tokens(folder, PROMPTS, **option)


def test_prefixes_are_shared(toy):
    folder, begin = toy("llama"), list(range(3, 40))
    prompts = [[*begin, 7], [*begin, 9]]
    plan = planned(folder)
    with open_on_device(folder, 2 * GPU_BYTES, plan=with_layers(plan, layers_of(plan)[:2])) as llm:
        for _ in range(2):
            assert tokens_of(llm, prompts) == cpu_tokens(folder, prompts)
        assert llm.stats.cached_tokens >= 64


def test_sequences_are_preempted(toy):
    folder, prompts = toy("llama"), prompts_of(*[20, 31, 7, 18] * 3)
    params = SamplingParams(max_tokens=60, temperature=1.0, stop_token_ids=(3, 4, 5))
    with open_llm(folder) as llm:
        wanted = tokens_of(llm, prompts, params)
    lens = tuple(map(len, prompts)), (60,) * len(prompts)
    plan = planned(folder, workload=Workload(*lens, may_end_early=True))
    sizes = {"sweep_tokens": 64, "micro_batch_tokens": 16, "max_sequences": 2, "kv_blocks": 8}
    choice = with_layers(plan, layers_of(plan)[:2], spare_sequences=5, **sizes)
    with open_on_device(folder, 2 * GPU_BYTES, plan=choice) as llm:
        assert tokens_of(llm, prompts, params) == wanted
        assert llm.stats.preemptions > 0


def test_a_saved_plan_runs_again(toy, tmp_path):
    folder = toy("llama")
    options = {"in_place": "layers", "attention": "device"}
    gpu_bytes, _ = smallest_budgets(folder, **options)
    room = gpu_bytes + (32 << 10)
    made, _ = saved_plan_runs_again(folder, tmp_path / "plan.yaml", room, **options)
    assert any(name.endswith(".attention") for name in made.device.in_place)


def test_the_link_can_be_measured_after_a_run(toy):
    folder = toy("llama")
    options = {"in_place": "layers", "attention": "device"}
    gpu_bytes, _ = smallest_budgets(folder, **options)
    with open_on_device(folder, gpu_bytes + (32 << 10), **options) as llm:
        wanted = tokens_of(llm, PROMPTS)
        assert llm.read_sweep().h2d_bytes > 0
        assert tokens_of(llm, PROMPTS) == wanted
