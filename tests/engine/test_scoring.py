"""Log probabilities, several completions, penalties and stop tokens through the whole engine."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lm_offload import LLM, SamplingParams
from tests.toy import load_oracle, make_toy_checkpoint

PROMPTS = [[5, 9, 33, 70, 2, 11, 80], [40] * 70, [3, 4]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_toy_checkpoint(tmp_path_factory.mktemp("toys") / "llama", "llama")


@pytest.mark.parametrize("budget", ["64MiB", "400KiB"])
def test_log_probabilities_are_those_of_transformers(folder, budget):
    oracle = load_oracle(folder)
    params = SamplingParams(max_tokens=3, ignore_eos=True, logprobs=2, prompt_logprobs=1)
    with LLM(folder, cpu_memory=budget, threads=1) as llm:
        outputs = llm.generate(PROMPTS, params)
    for prompt, output in zip(PROMPTS, outputs, strict=True):
        tokens = prompt + output.outputs[0].token_ids
        with torch.no_grad():
            table = oracle(torch.tensor([tokens])).logits[0].log_softmax(-1)
        assert output.prompt_logprobs[0] is None
        found = output.prompt_logprobs[1:] + output.outputs[0].logprobs
        assert len(found) == len(tokens) - 1
        for row, entries in enumerate(found):
            assert tokens[row + 1] in entries
            for token, entry in entries.items():
                assert abs(entry.logprob - float(table[row, token])) < 2e-4


def test_log_probabilities_do_not_depend_on_who_else_wants_some(folder):
    counts = (2, None, 2, 2, 0, 5)
    params = [SamplingParams(max_tokens=4, ignore_eos=True, logprobs=count) for count in counts]
    prompts = [[3 + i, 40, 7 + i] for i in range(len(counts))]
    with LLM(folder, cpu_memory="64MiB", threads=1) as llm:
        together = llm.generate(prompts, params)
        alone = [llm.generate(prompt, one)[0] for prompt, one in zip(prompts, params, strict=True)]
    for one, other, count in zip(together, alone, counts, strict=True):
        assert one.outputs[0].logprobs == other.outputs[0].logprobs
        assert (one.outputs[0].logprobs is None) == (count is None)


def test_scored_and_plain_requests_share_sweeps(folder):
    plain = SamplingParams(max_tokens=5, ignore_eos=True)
    scored = SamplingParams(max_tokens=5, ignore_eos=True, prompt_logprobs=0)
    with LLM(folder, cpu_memory="64MiB", threads=1) as llm:
        alone = llm.generate(PROMPTS, plain)
        mixed = llm.generate(PROMPTS, [scored, plain, scored])
    assert [one.outputs[0].token_ids for one in mixed] == [
        one.outputs[0].token_ids for one in alone
    ]
    assert [one.prompt_logprobs is None for one in mixed] == [False, True, False]


def test_n_completions_come_together_and_repeat_with_the_seed(folder):
    params = SamplingParams(max_tokens=6, n=3, temperature=1.5, seed=4, ignore_eos=True)
    with LLM(folder, cpu_memory="64MiB", threads=1) as llm:
        first, again = llm.generate([PROMPTS[0]], params), llm.generate(PROMPTS, params)
    texts = [one.token_ids for one in first[0].outputs]
    assert len({tuple(text) for text in texts}) == 3
    assert texts == [one.token_ids for one in again[0].outputs]
    assert [len(output.outputs) for output in again] == [3, 3, 3]


def test_a_stop_token_ends_the_text(folder):
    with LLM(folder, cpu_memory="64MiB", threads=1) as llm:
        (free,) = llm.generate([PROMPTS[0]], SamplingParams(max_tokens=8, ignore_eos=True))
        tokens = free.outputs[0].token_ids
        params = SamplingParams(max_tokens=8, ignore_eos=True, stop_token_ids=(tokens[3],))
        (stopped,) = llm.generate([PROMPTS[0]], params)
    assert stopped.outputs[0].token_ids == tokens[: tokens.index(tokens[3]) + 1]
    assert stopped.outputs[0].finish_reason == "stop"
