"""Mixtures of experts: what is read, and the same tokens however much of it is in memory."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lm_offload import SamplingParams, Workload
from lm_offload.errors import CheckpointError, ConfigError
from lm_offload.planner.decided.plan_choice import choice_of
from lm_offload.planner.decided.plan_text import plan_text
from tests.engine.harness import (
    GREEDY,
    PLENTY,
    generate,
    open_llm,
    prompts_of,
    smallest_budget,
    tokens_of,
)
from tests.toy import MIXTURE_TYPES

PROMPTS = prompts_of(5, 1, 34, 17)
WORKLOAD = Workload(tuple(map(len, PROMPTS)), (GREEDY.max_tokens,) * len(PROMPTS))
ONE = Workload((1,), (GREEDY.max_tokens,))


@pytest.fixture(params=MIXTURE_TYPES)
def folder(toy, request):
    return toy(request.param)


def on_disk(folder, workload, **changes):
    """A plan with every expert on disk, all else in memory."""
    with open_llm(folder) as llm:
        plan = llm.plan_for(workload)
        experts = tuple(name for name in plan.resident if ".expert." in name)
        sizes = dict(zip((unit.name for unit in llm.files.units), llm.files.layouts, strict=True))
        ring = changes.pop("ring_experts", 2) * max(sizes[name].size_bytes for name in experts)
    others = tuple(name for name in plan.resident if name not in experts)
    return replace(choice_of(plan), resident=others, streamed=experts, expert_ring=ring, **changes)


@pytest.mark.parametrize("overlap", [True, False])
@pytest.mark.parametrize("ring_experts", [1, 2, 5])
def test_experts_on_disk_give_the_same_tokens(folder, overlap, ring_experts):
    wanted = generate(folder, PLENTY, PROMPTS)
    plan = on_disk(folder, WORKLOAD, ring_experts=ring_experts)
    assert generate(folder, PLENTY, PROMPTS, plan=plan, overlap=overlap) == wanted


def test_rings_of_a_plan_that_fill_no_whole_pages(folder):
    """Direct reads go to whole pages, wherever the ring of other units ends."""
    wanted = generate(folder, PLENTY, PROMPTS)
    plan = on_disk(folder, WORKLOAD)
    plan = replace(plan, ring=777, expert_ring=plan.expert_ring + 777)
    assert generate(folder, PLENTY, PROMPTS, plan=plan) == wanted


def test_a_sweep_reads_the_experts_that_its_rows_use(folder):
    with open_llm(folder, plan=on_disk(folder, ONE)) as llm:
        tokens_of(llm, [PROMPTS[1]])
        sizes = {layout.name: layout.size_bytes for layout in llm.files.layouts}
        records = llm.stats.sweeps
        config = llm.files.config
    largest = max(size for name, size in sizes.items() if ".expert." in name)
    most = config.mixture_layers * config.experts_per_token * largest
    for record in records:
        assert 0 < record.time.read_bytes <= most
    assert most < sum(size for name, size in sizes.items() if ".expert." in name)


def test_the_smallest_budget_works_and_reads_other_units_too(folder):
    budget = smallest_budget(folder, PROMPTS, GREEDY.max_tokens)
    wanted = generate(folder, PLENTY, PROMPTS)
    with open_llm(folder, budget) as llm:
        assert tokens_of(llm, PROMPTS) == wanted
        plan = llm.plan
    assert plan.ring_bytes > 0
    assert plan.expert_ring_bytes > 0
    assert plan.used_bytes <= budget


def test_batches_and_chunks_do_not_change_tokens(folder):
    wanted = [generate(folder, PLENTY, [prompt])[0] for prompt in PROMPTS]
    plan = on_disk(folder, WORKLOAD)
    assert generate(folder, PLENTY, PROMPTS, plan=plan) == wanted
    small = replace(plan, sweep_tokens=8, micro_batch_tokens=3, draft_rows=0)
    assert generate(folder, PLENTY, PROMPTS, plan=small) == wanted


@pytest.mark.parametrize("options", [{"kv_format": "int8"}, {"prefix_cache": True}])
def test_with_other_options(folder, options, tmp_path):
    if "prefix_cache" in options:
        options = {"prefix_cache": tmp_path}
    wanted = generate(folder, PLENTY, PROMPTS, **options)
    plan = on_disk(folder, WORKLOAD)
    if "kv_format" in options:
        plan = replace(plan, kv_format="int8:row")
    assert generate(folder, PLENTY, PROMPTS, plan=plan, **options) == wanted


def test_drafts_and_samples(folder):
    plan, drawn = on_disk(folder, WORKLOAD), SamplingParams(max_tokens=8, seed=3, temperature=0.9)
    with open_llm(folder) as llm:
        wanted = tokens_of(llm, PROMPTS, drawn)
    with open_llm(folder, plan=replace(plan, draft_rows=4, sweep_tokens=64)) as llm:
        assert tokens_of(llm, PROMPTS, drawn) == wanted


def test_a_plan_is_written_read_and_run_again(folder, tmp_path):
    budget = int(1.5 * smallest_budget(folder, PROMPTS, GREEDY.max_tokens))
    with open_llm(folder, budget) as llm:
        wanted, plan = tokens_of(llm, PROMPTS), llm.plan
    assert plan.expert_ring_bytes > 0
    text = plan_text(plan, "a toy")
    assert "read in each sweep at most" in text
    (tmp_path / "plan.yaml").write_text(text)
    assert generate(folder, budget, PROMPTS, plan=tmp_path / "plan.yaml") == wanted


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize(
    ("model_type", "name", "role"),
    [
        ("deepseek_v3", "mlp.gate.weight", "router"),
        ("glm4_moe", "mlp.gate.e_score_correction_bias", "choice_bias"),
        ("lfm2_moe", "feed_forward.expert_bias", "choice_bias"),
        ("phimoe", "block_sparse_moe.gate.weight", "router"),
    ],
)
def test_a_score_that_is_no_number_is_named(toy, tmp_path, model_type, name, role, value):
    folder = Path(shutil.copytree(toy(model_type), tmp_path / "model"))
    tensors = load_file(folder / "model.safetensors")
    tensors[f"model.layers.2.{name}"].view(-1)[-1] = value
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=rf"Weight {role} of layers\.2\.router holds NaN"):
        generate(folder, PLENTY, PROMPTS)


def test_layers_that_guess_tokens_are_left_alone(toy, tmp_path):
    """They lie behind the last layer of a checkpoint and are no part of the model."""
    folder = Path(shutil.copytree(toy("glm4_moe"), tmp_path / "model"))
    wanted = generate(folder, PLENTY, PROMPTS)
    tensors = load_file(folder / "model.safetensors")
    behind = {
        name.replace("layers.2.", "layers.3."): torch.full_like(tensor, torch.nan)
        for name, tensor in tensors.items()
        if name.startswith("model.layers.2.")
    }
    save_file({**tensors, **behind}, folder / "model.safetensors", metadata={"format": "pt"})
    assert generate(folder, PLENTY, PROMPTS) == wanted


def test_a_ring_too_small_for_an_expert_is_refused(folder):
    plan = replace(on_disk(folder, ONE), expert_ring=4096)
    message = r"expert_ring is 4\.00 KiB, allowed is at least .*, the largest streamed expert"
    with pytest.raises(ConfigError, match=message):
        generate(folder, PLENTY, [PROMPTS[1]], plan=plan)


def test_a_cache_on_disk_is_refused(folder):
    plan = replace(on_disk(folder, ONE), kv_on_disk=(0,), kv_group_blocks=1, kv_ring_blocks=2)
    with pytest.raises(ConfigError, match="no layer of a mixture of experts"):
        generate(folder, PLENTY, [PROMPTS[1]], plan=plan)


def test_a_trace_names_the_experts(folder, tmp_path):
    trace = tmp_path / "trace.json"
    with open_llm(folder, plan=on_disk(folder, ONE), trace=trace) as llm:
        tokens_of(llm, [PROMPTS[1]])
    names = {event.get("name", "") for event in json.loads(trace.read_text())["traceEvents"]}
    assert any(".expert." in name for name in names)
