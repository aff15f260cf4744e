"""Keys and values in both memories, each attended to by its own processor: the same tokens."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_offload import LLM, SamplingParams, Workload
from lm_offload.errors import ConfigError
from lm_offload.kvcache.cache import blocks_for
from lm_offload.planner.decided.plan_choice import choice_of
from lm_offload.planner.decided.plan_text import plan_text
from tests.engine.device_harness import PROFILE, PROMPTS, cpu_tokens, open_on_device
from tests.engine.harness import GREEDY, PLENTY, open_llm, prompts_of, tokens_of
from tests.toy import DENSE_TYPES


def split_plan(folder, prompts, blocks, max_tokens=GREEDY.max_tokens, **changes):
    """A plan with so many `blocks` on the device and room for all requests on the host."""
    options = {
        name: changes.pop(name) for name in ("kv_format", "weight_format") if name in changes
    }
    lens = tuple(map(len, prompts))
    with open_on_device(folder, PLENTY, attention="cpu", **options) as llm:
        made = llm.plan_for(Workload(lens, (max_tokens,) * len(lens)))
    choice = choice_of(made)
    device = replace(
        choice.device, attention="both", kv_blocks=blocks, in_place=(), in_place_rows=0
    )
    on_host = changes.pop("host_blocks", choice.kv_blocks)
    return replace(choice, kv_blocks=on_host + blocks, device=device, **changes)


def open_split(folder, plan, **options) -> LLM:
    return open_on_device(folder, PLENTY, plan=plan, **options)


@pytest.mark.parametrize("model_type", DENSE_TYPES)
def test_tokens_are_those_of_the_cpu(toy, model_type):
    folder = toy(model_type)
    with open_split(folder, split_plan(folder, PROMPTS, 4)) as llm:
        assert tokens_of(llm, PROMPTS) == cpu_tokens(folder, PROMPTS)
        device, decode = llm.plan.device, llm.stats.decode[0].time
        assert dict(llm.plan.memory)["KV cache"] > 0
        assert dict(device.memory)["KV cache"] > 0
        assert decode.attend_s > 0
        assert decode.gpu_s > 0


@settings(max_examples=6)
@given(
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    model_type=st.sampled_from(["llama", "gemma3_text", "phi3"]),
    blocks=st.integers(1, 12),
    rows=st.integers(6, 70),
    micro=st.integers(1, 70),
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=6),
)
def test_any_split_and_any_batch(toy, dtype, model_type, blocks, rows, micro, lengths):
    folder, prompts = toy(model_type, dtype=dtype), prompts_of(*lengths)
    sizes = {"sweep_tokens": rows, "micro_batch_tokens": min(micro, rows)}
    plan = split_plan(folder, prompts, blocks, max_sequences=len(prompts), **sizes)
    with open_split(folder, plan) as llm:
        assert tokens_of(llm, prompts) == cpu_tokens(folder, prompts)
        plan = llm.plan
    assert plan.used_bytes <= plan.budget_bytes
    assert plan.device.used_bytes <= plan.device.budget_bytes


@pytest.mark.parametrize(
    "option", [{"weight_format": "int4:32"}, {"kv_format": "int8"}, {"kv_format": "int4"}]
)
def test_formats(toy, option):
    folder = toy("llama", intermediate_size=96)
    with open_split(folder, split_plan(folder, PROMPTS, 4, **option), **option) as llm:
        tokens = tokens_of(llm, PROMPTS)
    assert tokens == cpu_tokens(folder, PROMPTS, **option)


def test_prefixes_are_shared_within_each_memory(toy):
    folder, begin = toy("llama"), list(range(3, 40))
    prompts = [[*begin, last] for last in (7, 9, 11, 13)]
    plan = split_plan(folder, prompts, 4, max_sequences=4, host_blocks=8)
    with open_split(folder, plan) as llm:
        for _ in range(2):
            assert tokens_of(llm, prompts) == cpu_tokens(folder, prompts)
        assert llm.stats.cached_tokens >= 96


def test_sequences_are_preempted_in_either_memory(toy):
    folder, prompts = toy("llama"), prompts_of(*[20, 31, 7, 18] * 3)
    params = SamplingParams(max_tokens=60, temperature=1.0, stop_token_ids=(3, 4, 5))
    with open_llm(folder) as llm:
        wanted = tokens_of(llm, prompts, params)
    longest = max(blocks_for(len(prompt) + 60) for prompt in prompts)
    sizes = {"sweep_tokens": 64, "micro_batch_tokens": 16, "max_sequences": 2}
    more = {"host_blocks": longest + 1, "spare_sequences": 5}
    plan = split_plan(folder, prompts, longest + 1, 60, **sizes, **more)
    with open_split(folder, plan) as llm:
        assert tokens_of(llm, prompts, params) == wanted
        assert llm.stats.preemptions > 0


def test_a_request_that_neither_memory_holds_is_refused(toy):
    folder = toy("llama")
    plan, longer = split_plan(folder, PROMPTS, 3, host_blocks=3), prompts_of(60)
    with open_split(folder, plan) as llm, pytest.raises(ConfigError, match="in one memory"):
        tokens_of(llm, longer)


def test_the_link_can_be_measured_before_anything_is_computed(toy):
    folder = toy("llama")
    with open_split(folder, split_plan(folder, PROMPTS, 4)) as llm:
        llm.load(Workload(tuple(map(len, PROMPTS)), (8,) * len(PROMPTS)))
        llm.read_sweep()
        assert tokens_of(llm, PROMPTS) == cpu_tokens(folder, PROMPTS)


def test_a_saved_plan_runs_again(toy, tmp_path):
    folder, file = toy("llama"), tmp_path / "plan.yaml"
    with open_split(folder, split_plan(folder, PROMPTS, 4)) as llm:
        wanted, made = tokens_of(llm, PROMPTS), llm.plan
    file.write_text(plan_text(made, "toy"))
    with LLM(folder, cpu_memory=PLENTY, threads=1, plan=file) as llm:
        llm.profile = PROFILE
        assert tokens_of(llm, PROMPTS) == wanted
        assert llm.plan.device == made.device
        assert llm.plan.device.turns.cpu_token_s > 0


@pytest.mark.parametrize(
    ("pattern", "changed"),
    [(r"attention: both", "attention: cpu"), (r"(?<=  )kv_blocks: 4", "kv_blocks: 0"),
     (r"(?<=  )kv_blocks: 4", "kv_blocks: 999")],
)  # fmt: skip
def test_splits_that_cannot_be_are_refused(toy, tmp_path, pattern, changed):
    folder, file = toy("llama"), tmp_path / "plan.yaml"
    with open_split(folder, split_plan(folder, PROMPTS, 4)) as llm:
        text = plan_text(llm.plan_for(Workload((5, 1, 34, 17), (8,) * 4)), "toy")
    edited = re.sub(pattern, changed, text)
    assert edited != text
    file.write_text(edited)
    with open_split(folder, file) as llm, pytest.raises(ConfigError, match="In the plan kv_blocks"):
        llm.plan_for(Workload((5, 1, 34, 17), (8,) * 4))


def test_units_in_place_beside_it_are_refused(toy):
    folder = toy("llama")
    plan = split_plan(folder, PROMPTS, 4)
    name = next(name for name in plan.device.resident if name.endswith(".mlp"))
    device = replace(plan.device, in_place=(name,), in_place_rows=1)
    opened = open_split(folder, replace(plan, device=device))
    with opened as llm, pytest.raises(ConfigError, match="one device and nothing in place"):
        llm.plan_for(Workload((5, 1, 34, 17), (8,) * 4))
