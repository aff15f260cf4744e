"""The promise: transformers' greedy tokens and logits, whatever the budget and the batch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_offload import SamplingParams, Workload
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
from tests.toy import EVERY_TYPE, load_oracle

PROMPTS = prompts_of(5, 1, 34, 17)
SHARDED = {"max_shard_bytes": 120_000}


@pytest.fixture(scope="module")
def oracle(toy):
    """Greedy tokens of transformers, with the logits of each."""
    made = {}

    def logits_after(model_type: str, prompt: list[int], output: list[int], **arguments):
        key = f"{model_type} {arguments}"
        if key not in made:
            made[key] = load_oracle(toy(model_type, **arguments))
        with torch.no_grad():
            logits = made[key](torch.tensor([prompt + output[:-1]])).logits[0]
        return logits[len(prompt) - 1 :]

    return logits_after


def budgets(folder) -> dict[str, int]:
    """From hardly anything to everything."""
    smallest = smallest_budget(folder, PROMPTS, GREEDY.max_tokens)
    return {"smallest": smallest, "some": int(smallest * 1.4), "all": 64 << 20}


@pytest.mark.parametrize("size", ["smallest", "some", "all"])
@pytest.mark.parametrize("model_type", EVERY_TYPE)
def test_greedy_tokens_are_those_of_transformers(toy, oracle, model_type, size):
    folder = toy(model_type)
    for prompt, output in zip(
        PROMPTS, generate(folder, budgets(folder)[size], PROMPTS), strict=True
    ):
        assert len(output) == GREEDY.max_tokens
        assert output == oracle(model_type, prompt, output).argmax(-1).tolist()


@pytest.mark.parametrize("model_type", EVERY_TYPE)
def test_logits_are_those_of_transformers(toy, oracle, model_type, monkeypatch):
    folder, recorder = toy(model_type), LogitsRecorder(monkeypatch)
    (output,) = generate(folder, budgets(folder)["some"], [PROMPTS[2]])
    wanted = oracle(model_type, PROMPTS[2], output)
    torch.testing.assert_close(torch.stack(recorder.rows), wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("arguments", [SHARDED, {"tie_word_embeddings": True}])
@pytest.mark.parametrize("size", ["smallest", "all"])
def test_sharded_and_tied_checkpoints(toy, oracle, arguments, size):
    folder = toy("llama", **arguments)
    outputs = generate(folder, budgets(folder)[size], PROMPTS)
    for prompt, output in zip(PROMPTS, outputs, strict=True):
        assert output == oracle("llama", prompt, output, **arguments).argmax(-1).tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_overlap_and_budget_do_not_change_tokens(toy, dtype):
    folder = toy("qwen2", dtype=dtype)
    wanted = generate(folder, PLENTY, PROMPTS)
    sizes = budgets(folder)
    assert generate(folder, sizes["some"], PROMPTS, overlap=False) == wanted
    assert generate(folder, sizes["some"], PROMPTS) == wanted
    assert generate(folder, sizes["smallest"], PROMPTS) == wanted


@settings(max_examples=8)
@given(
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    model_type=st.sampled_from(["llama", "gemma3_text", "opt"]),
    factor=st.floats(1, 4),
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=6),
)
def test_any_budget_and_any_batch(toy, dtype, model_type, factor, lengths):
    folder, prompts = toy(model_type, dtype=dtype), prompts_of(*lengths)
    with open_llm(folder) as llm:
        alone = [tokens_of(llm, [prompt])[0] for prompt in prompts]
    budget = int(smallest_budget(folder, prompts, GREEDY.max_tokens) * factor)
    assert generate(folder, budget, prompts) == alone


def test_whole_and_chunked_prefill_agree(toy, monkeypatch):
    folder, prompts = toy("mistral"), prompts_of(90, 40)
    whole = generate(folder, PLENTY, prompts)
    monkeypatch.setattr("lm_offload.planner.choose.options.SWEEP_TOKENS", (7,))
    monkeypatch.setattr("lm_offload.planner.choose.options.MICRO_BATCH_TOKENS", (3,))
    with open_llm(folder, speculation="off") as llm:  # drafts need rows of their own
        assert tokens_of(llm, prompts) == whole
        assert (llm.plan.sweep_tokens, llm.plan.micro_batch_tokens) == (7, 3)


def test_more_prompts_than_fit_at_once_run_in_waves(toy):
    folder, prompts = toy("llama"), prompts_of(*range(3, 33))
    params = [SamplingParams(max_tokens=1 + index % 7, ignore_eos=True) for index in range(30)]
    with open_llm(folder) as llm:
        wanted = tokens_of(llm, prompts, params)
        assert llm.plan.max_sequences == 30
    lengths = tuple(map(len, prompts)), tuple(one.max_tokens for one in params)
    budget = int(1.2 * smallest_budget(folder, prompts, 7))
    with open_llm(folder, budget) as llm:
        assert llm.plan_for(Workload(*lengths)).max_sequences < 30
        assert tokens_of(llm, prompts, params) == wanted
    assert [len(tokens) for tokens in wanted] == [one.max_tokens for one in params]


def test_drawn_tokens_do_not_depend_on_batch_or_budget(toy):
    folder = toy("llama", dtype=torch.bfloat16)
    params = [
        SamplingParams(max_tokens=8, temperature=0.5 + index, seed=index, ignore_eos=True)
        for index in range(len(PROMPTS))
    ]
    with open_llm(folder) as llm:
        together = tokens_of(llm, PROMPTS, params)
        alone = [tokens_of(llm, [p], q)[0] for p, q in zip(PROMPTS, params, strict=True)]
        assert tokens_of(llm, PROMPTS[::-1], params[::-1])[::-1] == together == alone
    with open_llm(folder, smallest_budget(folder, PROMPTS, 8)) as llm:
        assert tokens_of(llm, PROMPTS, params) == together


def test_seeds_repeat_and_differ(toy):
    with open_llm(toy("llama")) as llm:
        outputs = [
            tokens_of(llm, PROMPTS[:1], SamplingParams(max_tokens=12, temperature=1.0, seed=seed))
            for seed in (1, 1, 2)
        ]
    assert outputs[0] == outputs[1] != outputs[2]
