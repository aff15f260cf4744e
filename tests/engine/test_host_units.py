"""MLPs computed on the CPU where they lie, in small sweeps, and all else on a stand-in."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_offload import LLM
from lm_offload.errors import ConfigError
from lm_offload.planner.decided.plan_choice import choice_of
from tests.engine.device_harness import (
    PROFILE,
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
from tests.engine.harness import PLENTY, tokens_of
from tests.toy import DENSE_TYPES

ROOM = 128 << 10  # of the device, for more rows than a sweep of the smallest plan has


def in_place(plan, rows: int, every: int = 1, **sizes):
    """The choice of a plan, with some of the MLPs in host memory computed there."""
    names = tuple(name for name in plan.resident if name.endswith(".mlp"))[::every]
    choice = replace(choice_of(plan), **sizes)
    return replace(choice, device=replace(choice.device, in_place=names, in_place_rows=rows))


@pytest.mark.parametrize("attention", ["device", "cpu"])
@pytest.mark.parametrize("model_type", DENSE_TYPES)
def test_tokens_are_those_of_the_cpu(toy, model_type, attention):
    folder = toy(model_type)
    gpu_bytes = smallest_budgets(folder, attention=attention)[0] + ROOM
    with open_on_device(folder, gpu_bytes, attention=attention, in_place="mlp") as llm:
        choice = in_place(llm.plan_for(WORKLOAD), rows=4)
    assert choice.device.in_place
    with open_on_device(folder, gpu_bytes, plan=choice) as llm:
        assert tokens_of(llm, PROMPTS) == cpu_tokens(folder, PROMPTS)
        prefill, decode = llm.stats.prefill[0].time, llm.stats.decode[-1].time
        assert decode.attend_s > 0
        assert decode.h2d_bytes < prefill.h2d_bytes


@settings(max_examples=5)
@given(case=any_case("llama", "gemma3_text", "opt"), attention=st.sampled_from(["device", "cpu"]))
def test_any_budgets_and_any_batch(toy, case, attention):
    plan = plan_of_case(toy, case, attention=attention, in_place="mlp")
    in_memory = {name for name in plan.resident if name.endswith(".mlp")}
    assert set(plan.device.in_place) == in_memory


@pytest.mark.parametrize("rows", [1, 3, 8])
@pytest.mark.parametrize("micro_batch_tokens", [2, 8])
def test_prompts_in_pieces_and_decode_take_turns(toy, rows, micro_batch_tokens):
    folder, sizes = toy("llama"), {"sweep_tokens": 8, "max_sequences": 3}
    gpu_bytes = smallest_budgets(folder)[0] + ROOM
    with open_on_device(folder, gpu_bytes, attention="device", in_place="mlp") as llm:
        made = llm.plan_for(WORKLOAD)
    micro = {"micro_batch_tokens": micro_batch_tokens}
    choice = in_place(made, rows, every=2, **sizes, **micro)
    with open_on_device(folder, gpu_bytes, plan=choice) as llm:
        for _ in range(2):
            assert tokens_of(llm, PROMPTS) == cpu_tokens(folder, PROMPTS)
        small = small_sweeps(llm, rows)
        assert [sweep.time.attend_s > 0 for sweep in llm.stats.sweeps] == small
    assert any(small)
    assert all(small) == (rows == 8)


@pytest.mark.parametrize("option", [{"weight_format": "int4:32"}, {"kv_format": "int8"}])
def test_formats(toy, option):
    folder = toy("llama", intermediate_size=96)
    gpu_bytes, _ = smallest_budgets(folder, in_place="mlp", **option)
    with open_on_device(folder, gpu_bytes, in_place="mlp", **option) as llm:
        tokens = tokens_of(llm, PROMPTS)
        assert llm.plan.device.in_place
    assert tokens == cpu_tokens(folder, PROMPTS, **option)


def test_refused_pinning_changes_nothing(toy, monkeypatch):
    from lm_offload.device.stand_in import StandIn

    monkeypatch.setattr(StandIn, "pin", lambda self, memory: False)
    folder = toy("llama")
    gpu_bytes, _ = smallest_budgets(folder, in_place="mlp")
    with open_on_device(folder, gpu_bytes, in_place="mlp") as llm:
        assert tokens_of(llm, PROMPTS) == cpu_tokens(folder, PROMPTS)


def test_the_link_can_be_measured_before_and_after_a_run(toy):
    folder = toy("llama")
    options = {"attention": "device", "in_place": "mlp"}
    gpu_bytes, cpu_bytes = smallest_budgets(folder, **options)
    with open_on_device(folder, gpu_bytes, cpu_bytes + 2 * ROOM, **options) as llm:
        llm.load(WORKLOAD)
        assert llm.plan.device.in_place
        for _ in range(2):
            assert llm.read_sweep().read_bytes > 0
            assert tokens_of(llm, PROMPTS) == cpu_tokens(folder, PROMPTS)


def test_mlps_are_where_they_are_predicted_to_be_faster(toy):
    folder = toy("llama")
    gpu_bytes, _ = smallest_budgets(folder)
    slow, fast = (replace(PROFILE.h2d, bytes_per_s=_flat(rate)) for rate in (1e8, 1e12))
    for link, wanted in ((slow, True), (fast, False)):
        with open_on_device(folder, gpu_bytes) as llm:
            llm.profile = replace(PROFILE, h2d=link, d2h=link)
            assert tokens_of(llm, PROMPTS) == cpu_tokens(folder, PROMPTS)
            assert bool(llm.plan.device.in_place) == wanted


def _flat(bytes_per_s):
    return replace(PROFILE.h2d.bytes_per_s, rates=(bytes_per_s,))


def test_a_saved_plan_runs_again(toy, tmp_path):
    folder, file = toy("llama"), tmp_path / "plan.yaml"
    gpu_bytes, _ = smallest_budgets(folder, in_place="mlp")
    saved_plan_runs_again(folder, file, gpu_bytes, in_place="mlp")
    refused = pytest.raises(ConfigError, match="in_place=none was given, the plan computes")
    with open_on_device(folder, gpu_bytes, in_place="none", plan=file) as llm, refused:
        llm.plan_for(WORKLOAD)


@pytest.mark.parametrize(
    ("units", "rows", "wanted"),
    [(("embed",), 1, "allowed are attention and MLPs"), (("layers.0.mlp",), 0, "1 to"),
     ((), 1, "1 to"), (("layers.0.mlp",), 1 << 20, "1 to")],
)  # fmt: skip
def test_a_plan_that_cannot_be_is_refused(toy, units, rows, wanted):
    folder = toy("llama")
    gpu_bytes, _ = smallest_budgets(folder, in_place="mlp")
    with open_on_device(folder, gpu_bytes, in_place="mlp") as llm:
        choice = choice_of(llm.plan_for(WORKLOAD))
    changed = replace(choice.device, in_place=units, in_place_rows=rows)
    opened = open_on_device(folder, gpu_bytes, plan=replace(choice, device=changed))
    with opened as llm, pytest.raises(ConfigError, match=wanted):
        llm.plan_for(WORKLOAD)


def test_places_that_do_not_exist_are_refused(toy):
    with pytest.raises(ConfigError, match="in_place=mlp was given without GPU memory"):
        LLM(toy("llama"), cpu_memory=PLENTY, in_place="mlp")
    with pytest.raises(ConfigError, match="in_place is 'disk', allowed are auto, none, mlp and l"):
        open_on_device(toy("llama"), PLENTY, in_place="disk")
