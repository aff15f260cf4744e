"""Layers whose heads differ: every kind of Gemma 4 wherever its weights, keys and values lie."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lm_offload import Workload
from lm_offload.errors import ConfigError
from lm_offload.planner.decided.plan_choice import choice_of
from tests.engine.device_harness import open_on_device
from tests.engine.harness import (
    GREEDY,
    PLENTY,
    LogitsRecorder,
    generate,
    open_llm,
    prompts_of,
    smallest_budget,
    spilled,
)
from tests.newer_toys import GEMMA4_LAYERED, GEMMA4_MIXTURE
from tests.toy import load_oracle

PROMPTS = prompts_of(5, 34, 90, 16)
WORKLOAD = Workload(tuple(map(len, PROMPTS)), (GREEDY.max_tokens,) * len(PROMPTS))
KINDS = {"dense": {}, "mixture": GEMMA4_MIXTURE, "layered": GEMMA4_LAYERED}
ON_DISK = {"dense": (0, 1), "layered": (0,)}  # layers that are alike, and read by no other


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def folder(toy, kind):
    return toy("gemma4_text", **KINDS[kind])


@torch.no_grad()
def test_tokens_and_logits_are_those_of_transformers(folder, monkeypatch):
    oracle, smallest = load_oracle(folder), smallest_budget(folder, PROMPTS, GREEDY.max_tokens)
    for budget in (smallest, int(smallest * 1.4), PLENTY):
        for prompt, output in zip(PROMPTS, generate(folder, budget, PROMPTS), strict=True):
            logits = oracle(torch.tensor([prompt + output[:-1]])).logits[0, len(prompt) - 1 :]
            assert output == logits.argmax(-1).tolist()
    recorder = LogitsRecorder(monkeypatch)
    (output,) = generate(folder, smallest, PROMPTS[1:2])
    logits = oracle(torch.tensor([PROMPTS[1] + output[:-1]])).logits[0, len(PROMPTS[1]) - 1 :]
    torch.testing.assert_close(torch.stack(recorder.rows), logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kv_format", [None, "int4"])
def test_chunks_batches_and_budgets_do_not_change_tokens(toy, kind, kv_format):
    folder = toy("gemma4_text", **KINDS[kind], dtype=torch.bfloat16)
    options = {"kv_format": kv_format}
    wanted = [generate(folder, PLENTY, [prompt], **options)[0] for prompt in PROMPTS]
    smallest = smallest_budget(folder, PROMPTS, GREEDY.max_tokens, **options)
    assert generate(folder, smallest, PROMPTS, **options) == wanted
    with open_llm(folder, **options) as llm:
        choice = choice_of(llm.plan_for(WORKLOAD))
    small = replace(choice, sweep_tokens=8, micro_batch_tokens=3, draft_rows=0)
    assert generate(folder, PLENTY, PROMPTS, plan=small, **options) == wanted


@pytest.mark.parametrize("kind", ON_DISK)
@pytest.mark.parametrize("kv_format", [None, "int4"])
def test_keys_and_values_on_disk(folder, kind, tmp_path, kv_format):
    layers, options = ON_DISK[kind], {"kv_format": kv_format, "spill_dir": tmp_path}
    wanted = generate(folder, PLENTY, PROMPTS, kv_format=kv_format)
    rows = {"sweep_tokens": 30, "micro_batch_tokens": 13}
    plan = spilled(folder, WORKLOAD, layers, kv_format=kv_format, **rows)
    assert generate(folder, PLENTY, PROMPTS, plan=plan, **options) == wanted
    with pytest.raises(ConfigError, match="whose blocks are alike"):
        generate(folder, PLENTY, PROMPTS, plan=replace(plan, kv_on_disk=(1, 2)), **options)


@pytest.mark.parametrize("kind", ON_DISK)
def test_prefixes_of_other_processes_wherever_their_layers_lay(folder, kind, tmp_path):
    wanted = generate(folder, PLENTY, PROMPTS)
    for layers in (ON_DISK[kind][:1], (), ON_DISK[kind]):
        plan = spilled(folder, WORKLOAD, layers) if layers else None
        with open_llm(folder, PLENTY, plan=plan, prefix_cache=tmp_path) as llm:
            outputs = llm.generate(PROMPTS, GREEDY)
        assert [list(output.outputs[0].token_ids) for output in outputs] == wanted
    assert [output.num_cached_tokens for output in outputs] == [0, 32, 80, 0]


def test_prefixes_in_common(folder):
    head, *tails = prompts_of(70, 5, 33, 1, 20)
    prompts = [head + tail for tail in tails]
    wanted = generate(folder, PLENTY, prompts, prefix_sharing=False)
    with open_llm(folder) as llm:
        outputs = llm.generate(prompts, GREEDY)
    assert [list(output.outputs[0].token_ids) for output in outputs] == wanted
    assert [output.num_cached_tokens for output in outputs] == [0, 64, 64, 64]


def test_quantized_weights(toy, kind, tmp_path, monkeypatch):
    monkeypatch.setenv("LM_OFFLOAD_CACHE", str(tmp_path))
    sizes = {"intermediate_size": 128, **KINDS[kind], "hidden_size_per_layer_input": 0}
    sizes |= {"moe_intermediate_size": 64} if kind == "mixture" else {}
    sizes |= {"hidden_size_per_layer_input": 64} if kind == "layered" else {}
    folder = toy("gemma4_text", **sizes, dtype=torch.bfloat16)
    options = {"weight_format": "int4", "kv_format": "int8"}
    plenty = generate(folder, PLENTY, PROMPTS, **options)
    assert generate(folder, "3MiB", PROMPTS, **options) == plenty


def test_a_gpu_is_refused(folder):
    with pytest.raises(ConfigError, match="which only the CPU computes"):
        open_on_device(folder, PLENTY)
