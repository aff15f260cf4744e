"""The pipeline over three tiers, on a stand-in: the tokens of the CPU, whatever lies where."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings

from lm_offload import LLM, SamplingParams, Workload
from lm_offload.device.stand_in import StandIn
from lm_offload.engine import device_profile
from lm_offload.engine.device_profile import with_device
from lm_offload.errors import ConfigError
from lm_offload.hardware import device_probe
from lm_offload.kernels.torch_kernels import TorchKernels
from lm_offload.planner.decided.plan_choice import choice_of
from lm_offload.planner.decided.plan_text import plan_text
from lm_offload.planner.request import DeviceBudget
from tests.engine.device_harness import (
    PROFILE,
    PROMPTS,
    STAND_IN,
    WORKLOAD,
    any_case,
    check_every_sweep_moved,
    cpu_tokens,
    on_all_tiers,
    open_on_device,
    plan_of_case,
    plan_within,
    saved_plan_runs_again,
    smallest_budgets,
)
from tests.engine.harness import PLENTY, open_llm, prompts_of, tokens_of
from tests.toy import DENSE_TYPES

SLOW = "standin:200MB/s"


@pytest.mark.parametrize("model_type", DENSE_TYPES)
def test_tokens_are_those_of_the_cpu(toy, model_type):
    folder = toy(model_type)
    gpu_bytes, cpu_bytes = smallest_budgets(folder)
    wanted = cpu_tokens(folder, PROMPTS)
    for budgets in ((gpu_bytes, cpu_bytes), (gpu_bytes, PLENTY), (PLENTY, cpu_bytes)):
        with open_on_device(folder, *budgets) as llm:
            assert tokens_of(llm, PROMPTS) == wanted


def test_all_three_tiers_hold_units(toy):
    folder = toy("llama")
    with open_on_device(folder, PLENTY, attention="device") as llm:
        choice = on_all_tiers(llm.plan_for(WORKLOAD))
    with open_on_device(folder, PLENTY, plan=choice) as llm:
        assert tokens_of(llm, PROMPTS) == cpu_tokens(folder, PROMPTS)
        plan, times = llm.plan, [sweep.time for sweep in llm.stats.sweeps]
    for names in (plan.streamed, plan.resident, plan.device.resident):
        assert any(".mlp" in name or ".attention" in name for name in names)
    check_every_sweep_moved((time.read_bytes for time in times), plan.streamed_bytes)
    check_every_sweep_moved((time.h2d_bytes for time in times), plan.device.uploaded_bytes)
    assert all(0 < time.gpu_s <= time.total_s for time in times)


def test_budgets_between_the_extremes_give_every_tier_units(toy):
    folder = toy("llama")
    gpu_bytes, cpu_bytes = smallest_budgets(folder)
    budgets = gpu_bytes + (240 << 10), cpu_bytes + (90 << 10)
    plan = plan_within(folder, PROMPTS, *budgets, attention="device")
    assert plan.streamed
    assert plan.resident
    assert any(".mlp" in name or ".attention" in name for name in plan.device.resident)


@pytest.mark.parametrize("attention", ["device", "cpu"])
def test_more_memory_of_the_device_is_never_too_much(toy, attention):
    folder = toy("opt", dtype=torch.bfloat16)
    gpu_bytes, cpu_bytes = smallest_budgets(folder, attention=attention)
    for more_bytes in range(0, 256 << 10, 16 << 10):
        budgets = gpu_bytes + more_bytes, cpu_bytes
        with open_on_device(folder, *budgets, attention=attention) as llm:
            assert llm.plan_for(WORKLOAD).used_bytes <= cpu_bytes


@settings(max_examples=10)
@given(case=any_case("llama", "gemma3_text", "opt"))
def test_any_budgets_and_any_batch(toy, case):
    plan_of_case(toy, case)


@pytest.mark.parametrize(
    "option", [{"weight_format": "int4:32"}, {"kv_format": "int8"}, {"kv_format": "int4"}]
)
def test_formats(toy, option):
    folder = toy("llama", intermediate_size=96)
    with open_on_device(folder, PLENTY, **option) as llm:
        tokens = tokens_of(llm, PROMPTS)
    assert tokens == cpu_tokens(folder, PROMPTS, **option)


def test_prefixes_are_shared_on_the_device(toy):
    folder, begin = toy("llama"), list(range(3, 40))
    prompts = [[*begin, 7], [*begin, 9]]
    with open_on_device(folder, PLENTY) as llm:
        assert tokens_of(llm, prompts) == cpu_tokens(folder, prompts)
        assert tokens_of(llm, prompts) == cpu_tokens(folder, prompts)
        assert llm.stats.cached_tokens >= 64


def test_device_plans_leave_drafts_and_disk_out(toy):
    folder, repeated = toy("llama"), [[5, 6, 7, 8] * 8]
    gpu_bytes, _ = smallest_budgets(folder, repeated)
    with open_on_device(folder, gpu_bytes) as llm:
        assert tokens_of(llm, repeated) == cpu_tokens(folder, repeated)
        assert llm.plan.draft_rows == 0
        assert not llm.plan.spill.layers
        assert llm.stats.drafted == 0


def test_sequences_are_preempted_on_the_device(toy):
    folder, prompts = toy("llama"), prompts_of(*[20, 31, 7, 18] * 3)
    params = SamplingParams(max_tokens=60, temperature=1.0, stop_token_ids=(3, 4, 5))
    lens = tuple(map(len, prompts)), (60,) * len(prompts)
    with open_llm(folder) as llm:
        wanted = tokens_of(llm, prompts, params)
    with open_on_device(folder, PLENTY) as llm:
        made = llm.plan_for(Workload(*lens, may_end_early=True))
        assert made.spare_sequences == 0
    sizes = {"sweep_tokens": 64, "micro_batch_tokens": 16, "max_sequences": 2, "kv_blocks": 8}
    plan = replace(choice_of(made), spare_sequences=5, **sizes)
    with open_on_device(folder, PLENTY, plan=plan) as llm:
        assert tokens_of(llm, prompts, params) == wanted
        assert llm.stats.preemptions > 0


@pytest.mark.parametrize(
    "option",
    [{"overlap": False}, {"speculation": "prompt-lookup"}, {"prefix_cache": "."},
     {"spill_dir": "."}, {"speculation": "draft-model"}, {"draft_model": "."}],
)  # fmt: skip
def test_options_that_no_device_heeds_are_refused(toy, option):
    with pytest.raises(ConfigError, match=r"GPU memory was given and .* leave one of them out"):
        open_on_device(toy("llama"), PLENTY, **option)


def test_budgets_in_the_spelling_of_accelerate(toy):
    folder = toy("llama")
    with LLM(folder, max_memory={STAND_IN: "8MiB", "cpu": PLENTY}, threads=1) as llm:
        assert (llm.device.name, llm.device.budget_bytes) == (STAND_IN, 8 << 20)
    with pytest.raises(ConfigError, match="different kinds"):
        LLM(folder, max_memory={STAND_IN: "8MiB", "cuda:0": "8MiB"})
    with pytest.raises(ConfigError, match="either max_memory"):
        LLM(folder, max_memory={"cpu": "8MiB"}, gpu_memory="1MiB")


def test_more_than_the_device_has_is_refused(toy):
    with pytest.raises(ConfigError, match=r"2.00 GiB|has 1.00 GiB free"):
        LLM(toy("llama"), gpu_memory="2GiB", device="standin:1GB/s:1GiB")


def test_refused_pinning_stages_uploads(toy, monkeypatch, caplog):
    monkeypatch.setattr(StandIn, "pin", lambda self, memory: memory.nbytes <= 32 << 10)
    folder = toy("llama")
    gpu_bytes, _ = smallest_budgets(folder)
    with open_on_device(folder, gpu_bytes) as llm:
        assert tokens_of(llm, PROMPTS) == cpu_tokens(folder, PROMPTS)
    assert "refuses to pin" in caplog.text


def test_a_saved_plan_runs_again(toy, tmp_path):
    folder, file = toy("llama"), tmp_path / "plan.yaml"
    gpu_bytes, cpu_bytes = smallest_budgets(folder)
    budgets = gpu_bytes + (240 << 10), cpu_bytes + (90 << 10)
    made, again = saved_plan_runs_again(folder, file, *budgets)
    assert (again.resident, again.streamed) == (made.resident, made.streamed)


@pytest.mark.parametrize(
    ("was", "wanted"),
    [("ring: ", "largest unit that passes"), ("budget: ", "The plan takes .* of the device")],
)
def test_a_saved_plan_that_cannot_fit_is_refused(toy, tmp_path, was, wanted):
    folder, file = toy("llama"), tmp_path / "plan.yaml"
    gpu_bytes, cpu_bytes = smallest_budgets(folder)
    with open_on_device(folder, gpu_bytes, cpu_bytes) as llm:
        host, device = plan_text(llm.plan_for(WORKLOAD), "toy").split("device:")
    assert was in device
    changed = re.sub(was + r"[^,}\n]+", was + "4KiB", device)
    file.write_text(f"{host}device:{changed}")
    with LLM(folder, cpu_memory=PLENTY, threads=1, plan=file) as llm:
        llm.profile = PROFILE
        with pytest.raises(ConfigError, match=wanted):
            llm.plan_for(WORKLOAD)


@pytest.mark.parametrize(
    ("was", "now"),
    [("draft_rows: 0", "draft_rows: 2"), ("kv_group_blocks: 0", "kv_group_blocks: 9")],
)
def test_a_saved_plan_with_what_no_device_does_is_refused(toy, tmp_path, was, now):
    file = tmp_path / "plan.yaml"
    with open_on_device(toy("llama"), PLENTY) as llm:
        text = plan_text(llm.plan_for(WORKLOAD), "toy")
    assert was in text
    text = text.replace(was, now)
    if "group" in now:
        text = text.replace("kv_on_disk: []", "kv_on_disk: [0]")
        text = text.replace("kv_ring_blocks: 0", "kv_ring_blocks: 9")
    file.write_text(text)
    with LLM(toy("llama"), cpu_memory=PLENTY, threads=1, plan=file) as llm:
        llm.profile = PROFILE
        with pytest.raises(ConfigError, match="allowed beside a device"):
            llm.plan_for(WORKLOAD)


def test_a_device_that_is_not_described_is_measured(toy):
    folder = toy("llama")
    with LLM(folder, cpu_memory=PLENTY, gpu_memory="64MiB", device=SLOW, threads=1) as llm:
        link = llm.profile.h2d
        assert max(link.bytes_per_s.rates) == pytest.approx(2e8, rel=0.4)
        assert max(llm.profile.host_copy.bytes_per_s.rates) < max(link.bytes_per_s.rates)
        assert llm.profile.gpu.product_flops["bf16"].at(8) > 0
        assert llm.profile.gpu.prefill_attention_flops["bf16/128x8"].at(256) > 0
        assert tokens_of(llm, PROMPTS) == cpu_tokens(folder, PROMPTS)


def test_what_was_measured_of_a_device_is_stored(monkeypatch):
    least_bytes = device_profile.LEAST_BYTES
    monkeypatch.setattr(device_profile, "HOST_BYTES", least_bytes)
    monkeypatch.setattr(device_profile, "DEVICE_BYTES", least_bytes)
    here = replace(PROFILE, gpu=None, h2d=None, d2h=None, fingerprint=(("cpu", "of this test"),))
    budget, kernels = DeviceBudget(SLOW, 8 * least_bytes), TorchKernels(1)
    first = with_device(here, budget, kernels, 8 * least_bytes)
    assert first.fingerprint == here.fingerprint
    monkeypatch.setattr(device_probe, "DeviceProbe", None)  # what is stored is not measured again
    newer = replace(here, disk_bytes=1)
    assert with_device(newer, budget, kernels, 8 * least_bytes) == replace(first, disk_bytes=1)
    with pytest.raises(TypeError):
        with_device(here, replace(budget, name=STAND_IN), kernels, 8 * least_bytes)


def test_a_plan_may_be_made_for_a_device_that_is_not_here(toy):
    workload = Workload((10,), (10,))
    with open_on_device(toy("llama"), "8MiB", device="null:24GiB") as llm:
        assert llm.plan_for(workload).device.name == "null:24GiB"
        with pytest.raises(ConfigError, match="plans alone"):
            llm.load(workload)


def test_kernels_multiply_as_was_measured(toy, monkeypatch):
    """Those with two ways are switched where the profile says."""
    given, folder = [], toy("llama")

    class TwoWays:
        few_rows = 64

        def __init__(self, kernels):
            self._kernels = kernels

        def __getattr__(self, name):
            return getattr(self._kernels, name)

        def switched_at(self, rows):
            given.append(rows)
            return self._kernels

    monkeypatch.setattr(StandIn, "kernels", lambda device, cpu: TwoWays(cpu))
    for device in (STAND_IN, f"{STAND_IN},{STAND_IN}"):
        with open_on_device(folder, PLENTY, device=device) as llm:
            llm.profile = replace(PROFILE, gpu=replace(PROFILE.gpu, few_rows=24))
            assert tokens_of(llm, PROMPTS) == cpu_tokens(folder, PROMPTS)
    assert given == [24, 24, 24]
