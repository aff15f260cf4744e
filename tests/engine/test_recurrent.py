"""Models with recurrent layers: states in the budget, the same tokens however they are computed."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lm_offload import SamplingParams, Workload
from lm_offload.errors import ConfigError
from lm_offload.kernels.torch_kernels import TorchKernels
from lm_offload.kvcache.cache import blocks_for
from lm_offload.planner.decided.plan_choice import choice_of
from tests.engine.harness import (
    GREEDY,
    PLENTY,
    generate,
    open_llm,
    prompts_of,
    smallest_budget,
    spilled,
    tokens_of,
)
from tests.engine.test_preemption import PROMPTS as MANY
from tests.engine.test_preemption import SHORT, run_tight, wanted_of
from tests.quantized import toy_shapes
from tests.toy import RECURRENT_MIXTURES, RECURRENT_TYPES

PROMPTS = prompts_of(5, 1, 34, 17)
WORKLOAD = Workload(tuple(map(len, PROMPTS)), (GREEDY.max_tokens,) * len(PROMPTS))


@pytest.fixture(params=RECURRENT_TYPES)
def folder(toy, request):
    return toy(request.param)


def test_states_are_in_the_budget_by_sequence_and_only_attention_has_keys(folder):
    with open_llm(folder) as llm:
        plan, config = llm.plan_for(WORKLOAD), llm.files.config
        assert tokens_of(llm, PROMPTS)
    bytes_of = dict(plan.memory)
    values = 4 * 12 * 16 + 3 * (2 * 2 * 12 + 4 * 16)  # matrices and inputs of a convolution
    if config.model_type.startswith("lfm2"):
        values = 2 * 64  # inputs alone
    assert config.state_bytes == 3 * 4 * values
    states_bytes = plan.lanes * config.state_bytes
    assert states_bytes <= bytes_of["recurrent states"] < states_bytes + 4096
    assert bytes_of["KV cache"] == plan.kv_blocks * 16 * 2 * 2 * 16 * 4  # one of four layers
    budget = smallest_budget(folder, PROMPTS, GREEDY.max_tokens)
    with open_llm(folder, budget) as llm:
        smallest = llm.plan_for(WORKLOAD)
    assert smallest.used_bytes <= budget
    assert dict(smallest.memory)["recurrent states"] == 4096 * -(-config.state_bytes // 4096)


def test_batches_and_chunks_change_no_token(folder):
    wanted = [generate(folder, PLENTY, [prompt])[0] for prompt in PROMPTS]
    with open_llm(folder) as llm:
        choice = choice_of(llm.plan_for(WORKLOAD))
    small = replace(choice, sweep_tokens=8, micro_batch_tokens=3)
    assert generate(folder, PLENTY, PROMPTS, plan=small) == wanted
    assert generate(folder, PLENTY, PROMPTS, plan=small, overlap=False) == wanted


def test_plain_torch_gives_the_same_tokens(folder):
    with open_llm(folder) as llm:
        wanted = tokens_of(llm, PROMPTS)
    with open_llm(folder) as llm:
        llm.kernels = TorchKernels(1)
        assert tokens_of(llm, PROMPTS) == wanted


@pytest.mark.parametrize(
    "model_type", ["qwen3_next", "qwen3_5_text", "granitemoehybrid", "nemotron_h"]
)
def test_preempted_sequences_are_computed_anew(toy, model_type):
    folder = toy(model_type)
    found, llm = run_tight(folder, MANY, SHORT, plan={"max_sequences": 8})
    assert found == wanted_of(folder, SHORT)
    assert llm.stats.preemptions > 0


def test_later_runs_and_samples_begin_with_zeros(folder):
    drawn = SamplingParams(max_tokens=6, temperature=1.0, seed=7, n=3, ignore_eos=True)
    with open_llm(folder) as llm:
        first = [out.outputs for out in llm.generate(PROMPTS, drawn)]
        tokens_of(llm, PROMPTS[::-1])
        assert [out.outputs for out in llm.generate(PROMPTS, drawn)] == first
        assert [out.outputs for out in llm.generate(PROMPTS[2:], drawn)] == first[2:]


def test_nothing_is_drafted(folder, toy, tmp_path):
    repeating = [[5, 6, 7, 8] * 12]
    with open_llm(folder) as llm:
        plan = llm.plan_for(Workload((48,), (40,)))
        assert plan.draft_rows == 0
        tokens_of(llm, repeating)
    drafts = "drafts cannot be taken back from a recurrent state"
    with pytest.raises(ConfigError, match=f"speculation is 'prompt-lookup' for .*{drafts}"):
        open_llm(folder, speculation="prompt-lookup")
    with pytest.raises(ConfigError, match=f"A draft model was given for .*{drafts}"):
        open_llm(folder, draft_model=toy("llama"))
    with pytest.raises(ConfigError, match=r"A prefix cache was given for .* in memory alone"):
        open_llm(folder, prefix_cache=tmp_path)
    with pytest.raises(ConfigError, match="draft_rows is 2, allowed is 0"):
        generate(folder, PLENTY, repeating, plan=replace(choice_of(plan), draft_rows=2))
    with pytest.raises(ConfigError, match=r"The draft model is .* cannot take drafts back"):
        open_llm(toy("llama"), draft_model=folder)


def test_a_gpu_is_refused(toy):
    with pytest.raises(ConfigError, match="GPU memory was given for recurrent layers"):
        open_llm(toy("qwen3_5_text"), gpu_memory="64MiB", device="standin:1GB/s:1GiB")


@pytest.mark.parametrize(
    ("model_type", "options"),
    [("qwen3_5_text", {}), ("granitemoehybrid", {"num_local_experts": 0})],
)
def test_keys_and_values_on_disk(toy, model_type, options):
    folder = toy(model_type, **options)
    blocks = max(map(blocks_for, WORKLOAD.total_lens))
    plan = spilled(folder, WORKLOAD, (2,), kv_group_blocks=blocks, kv_ring_blocks=3 * blocks)
    assert generate(folder, PLENTY, PROMPTS, plan=plan) == generate(folder, PLENTY, PROMPTS)
    with pytest.raises(ConfigError, match=r"kv_on_disk is \[1\], allowed is no recurrent layer"):
        generate(folder, PLENTY, PROMPTS, plan=replace(plan, kv_on_disk=(1,)))


@pytest.mark.parametrize(
    ("model_type", "options"),
    [*((it, {}) for it in RECURRENT_MIXTURES), ("nemotron_h", {"moe_latent_size": 40})],
)
def test_experts_on_disk(toy, model_type, options):
    folder = toy(model_type, **options)
    wanted = generate(folder, PLENTY, PROMPTS)
    with open_llm(folder) as llm:
        plan = llm.plan_for(WORKLOAD)
        sizes = {layout.name: layout.size_bytes for layout in llm.files.layouts}
    names = {True: [], False: []}
    for name in plan.resident:
        names[".expert." in name].append(name)
    largest = max(sizes[name] for name in names[True])
    places = {"resident": tuple(names[False]), "streamed": tuple(names[True])}
    plan = replace(choice_of(plan), **places, expert_ring=2 * largest)
    assert generate(folder, PLENTY, PROMPTS, plan=plan) == wanted


@pytest.mark.parametrize("weight_format", ["int8:64", "int4:64", "fp8"])
@pytest.mark.parametrize("model_type", RECURRENT_TYPES)
def test_formats_leave_vectors_and_gates_alone(toy, model_type, weight_format):
    folder = toy(model_type, **toy_shapes(model_type))
    with open_llm(folder, weight_format=weight_format) as llm:
        found = tokens_of(llm, PROMPTS)
        layouts = {layout.name: layout.places for layout in llm.files.layouts}
    budget = int(1.2 * smallest_budget(folder, PROMPTS, 8, weight_format=weight_format))
    assert generate(folder, budget, PROMPTS, weight_format=weight_format) == found
    places = layouts["layers.0.recurrent"]
    kept = {role for role, place in places.items() if place.format is None}
    always = {"input_norm", "convolution", "decay_bias", "decay_log", "gated_norm"}
    if model_type.startswith("lfm2"):
        assert kept == {"input_norm", "convolution"}
    elif "skip" in places:
        assert kept == always | {"skip", "convolution_bias", "step_proj"}
    else:
        assert kept == always | ({"ba_proj"} & places.keys() or {"a_proj", "b_proj"})


def test_published_files_keep_decays_in_float32_and_hold_other_parts(toy, tmp_path):
    """As Qwen3.5 comes: bf16 but for two vectors of a layer, with layers that guess tokens."""
    folder = Path(shutil.copytree(toy("qwen3_5_text", dtype=torch.bfloat16), tmp_path / "model"))
    wanted = generate(folder, PLENTY, PROMPTS)
    tensors = load_file(folder / "model.safetensors")
    for name in tensors:
        if name.endswith(("A_log", "linear_attn.norm.weight")):
            tensors[name] = tensors[name].float()
    others = {name: torch.full((4,), torch.nan) for name in ("mtp.fc.weight", "model.visual.x")}
    save_file({**tensors, **others}, folder / "model.safetensors", metadata={"format": "pt"})
    assert generate(folder, PLENTY, PROMPTS) == wanted
    budget = smallest_budget(folder, PROMPTS, GREEDY.max_tokens)
    assert generate(folder, budget, PROMPTS) == wanted
