"""Quantized keys and values end to end: the same text however it is computed, fewer bytes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_offload import Workload
from lm_offload.errors import ConfigError
from tests.engine.harness import (
    GREEDY,
    PLENTY,
    LogitsRecorder,
    generate,
    open_llm,
    prompts_of,
    smallest_budget,
    tokens_of,
)
from tests.toy import MODEL_TYPES, UNSTRETCHED, load_oracle

EACH_FORMAT = pytest.mark.parametrize("name", ["int8", "int4"])
PROMPTS = prompts_of(5, 1, 34, 90)
# Rounding now and then changes which of the toy's experts are chosen, so that a row is far off;
# the larger scores of YaRN lose more.
EVERY_EXPERT = {
    "gpt_oss": {"num_experts_per_tok": 5},
    "deepseek_v3": {
        "num_experts_per_tok": 6,
        "n_group": 1,
        "topk_group": 1,
        **UNSTRETCHED,
    },
}


@EACH_FORMAT
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_logits_stay_near_those_of_transformers(toy, model_type, name, monkeypatch):
    folder = toy(model_type, **EVERY_EXPERT.get(model_type, {}))
    recorder = LogitsRecorder(monkeypatch)
    (output,) = generate(folder, PLENTY, [PROMPTS[2]], kv_format=name)
    with torch.no_grad():
        tokens = torch.tensor([PROMPTS[2] + output[:-1]])
        wanted = load_oracle(folder)(tokens).logits[0][len(PROMPTS[2]) - 1 :]
    distance = (torch.stack(recorder.rows) - wanted).std() / wanted.std()
    assert 0 < distance < {"int8": 0.06, "int4": 0.5}[name]


@settings(max_examples=12)
@given(
    name=st.sampled_from(["int8", "int4"]),
    model_type=st.sampled_from(["llama", "gemma3_text", "opt"]),
    factor=st.floats(1, 4),
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=6),
)
def test_any_budget_and_any_batch(toy, name, model_type, factor, lengths):
    folder, prompts = toy(model_type, dtype=torch.bfloat16), prompts_of(*lengths)
    with open_llm(folder, kv_format=name) as llm:
        alone = [tokens_of(llm, [prompt])[0] for prompt in prompts]
    budget = int(smallest_budget(folder, prompts, GREEDY.max_tokens) * factor)
    assert generate(folder, budget, prompts, kv_format=name) == alone


@EACH_FORMAT
def test_whole_and_chunked_prefill_agree(toy, name, monkeypatch):
    folder = toy("mistral")
    whole = generate(folder, PLENTY, PROMPTS, kv_format=name)
    monkeypatch.setattr("lm_offload.planner.choose.options.SWEEP_TOKENS", (7,))
    monkeypatch.setattr("lm_offload.planner.choose.options.MICRO_BATCH_TOKENS", (3,))
    assert generate(folder, PLENTY, PROMPTS, kv_format=name) == whole


@pytest.mark.parametrize(("name", "size_bytes"), [("fp32", 64), ("int8", 18), ("int4", 12)])
def test_the_plan_counts_the_bytes_of_the_format(toy, name, size_bytes):
    with open_llm(toy("llama"), kv_format=name) as llm:
        plan = llm.plan_for(Workload((200,), (56,)))
    per_token = 2 * 3 * 2 * size_bytes  # K and V, layers, heads
    assert dict(plan.memory)["KV cache"] == -(-256 * per_token // 4096) * 4096
    assert plan.kv_format.startswith(name)


def test_the_own_precision_is_the_default_and_exact(toy):
    folder = toy("llama", dtype=torch.bfloat16)
    assert generate(folder, PLENTY, PROMPTS) == generate(folder, PLENTY, PROMPTS, kv_format="bf16")


def test_formats_that_cannot_be_had_are_refused(toy):
    with pytest.raises(ConfigError, match="'int2' is not known; allowed are fp32"):
        open_llm(toy("llama"), kv_format="int2")
    with pytest.raises(ConfigError, match="heads of 12 channels, which KV format int8"):
        open_llm(toy("llama", head_dim=12), kv_format="int8")


@pytest.mark.parametrize("budget", [PLENTY, "4MiB", "2MiB"])
def test_auto_takes_the_format_that_is_predicted_to_be_fastest(toy, budget):
    folder, workload = toy("llama", dtype=torch.bfloat16), Workload((400,) * 16, (100,) * 16)
    fixed_s = {}
    for name in ("bf16", "int8", "int4"):
        plan = open_llm(folder, budget, kv_format=name).plan_for(workload)
        fixed_s[plan.kv_format] = plan.predicted.run_s
    with open_llm(folder, budget, kv_format="auto") as llm:
        plan = llm.plan_for(workload)
        assert plan.predicted.run_s == pytest.approx(min(fixed_s.values()))
        llm.prepare(plan)
        assert str(llm.files.kv_format) == plan.kv_format
    with open_llm(folder, budget, kv_format="auto", exact=True) as llm:
        assert llm.plan_for(workload).kv_format == "bf16"
