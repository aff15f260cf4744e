"""Prompts that begin alike: computed once, the same text to the last bit."""

from __future__ import annotations

import pytest
import torch

from lm_offload import SamplingParams, Workload
from lm_offload.engine.eval_windows import Window
from tests.engine.harness import (
    GREEDY,
    LogitsRecorder,
    generate,
    open_llm,
    prompts_of,
    smallest_budget,
    tokens_of,
)

(PREFIX,) = prompts_of(50)  # 3 blocks and 2 tokens
PROMPTS = [PREFIX + tail for tail in prompts_of(3, 1, 30, 17, seed=1)]
CACHED = [0, 48, 48, 48]


@pytest.mark.parametrize("kv_format", [None, "int8", "int4"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("model_type", ["llama", "gemma2"])
def test_logits_are_the_same_bits_as_without(toy, monkeypatch, model_type, dtype, kv_format):
    folder, options = toy(model_type, dtype=dtype), {"kv_format": kv_format}
    recorder = LogitsRecorder(monkeypatch)
    for sharing in (False, True):
        with open_llm(folder, prefix_sharing=sharing, **options) as llm:
            outputs = llm.generate(PROMPTS, GREEDY)
            cached = [output.num_cached_tokens for output in outputs]
            assert cached == (CACHED if sharing else [0] * 4)
            assert llm.stats.cached_tokens == sum(cached)
            computed = sum(sweep.prefill_tokens for sweep in llm.stats.sweeps)
            assert computed == sum(map(len, PROMPTS)) - sum(cached)
    apart, shared = torch.stack(recorder.rows).chunk(2)
    assert torch.equal(apart, shared)


def test_tokens_are_the_same_in_every_budget(toy):
    folder = toy("llama")
    wanted = generate(folder, "64MiB", PROMPTS, prefix_sharing=False)
    smallest = smallest_budget(folder, PROMPTS, GREEDY.max_tokens)
    for factor in (1, 1.3, 2):
        assert generate(folder, int(smallest * factor), PROMPTS) == wanted


def test_chunks_of_a_prefix_and_micro_batches(toy, monkeypatch):
    folder = toy("mistral")
    wanted = generate(folder, "64MiB", PROMPTS, prefix_sharing=False)
    monkeypatch.setattr("lm_offload.planner.choose.options.SWEEP_TOKENS", (23,))
    monkeypatch.setattr("lm_offload.planner.choose.options.MICRO_BATCH_TOKENS", (5,))
    assert generate(folder, "64MiB", PROMPTS) == wanted


def test_completions_of_one_prompt_share_its_blocks(toy):
    params = SamplingParams(max_tokens=6, temperature=1.0, n=5, ignore_eos=True)
    texts = []
    for sharing in (False, True):
        with open_llm(toy("llama"), prefix_sharing=sharing) as llm:
            (output,) = llm.generate([PREFIX], params)
            texts.append([one.token_ids for one in output.outputs])
            assert llm.stats.cached_tokens == (4 * 48 if sharing else 0)
    assert texts[0] == texts[1]


def test_a_plan_reserves_a_common_prefix_once(toy):
    lengths = tuple(map(len, PROMPTS)), (8,) * 4
    with open_llm(toy("llama")) as llm:
        apart = llm.plan_for(Workload(*lengths))
        llm.generate(PROMPTS, GREEDY)
        assert llm.plan.kv_blocks == apart.kv_blocks - sum(CACHED) // 16
        assert llm.plan.max_sequences == 4


def test_a_later_call_finds_prompts_and_answers(toy):
    with open_llm(toy("llama"), prefix_sharing=False) as llm:
        (answer,) = tokens_of(llm, [PREFIX], SamplingParams(max_tokens=20, ignore_eos=True))
        longer = [*PREFIX, *answer, 7, 8]
        wanted = tokens_of(llm, [longer])
    with open_llm(toy("llama")) as llm:
        llm.load(Workload((100,), (20,)))
        assert tokens_of(llm, [PREFIX], SamplingParams(max_tokens=20, ignore_eos=True)) == [answer]
        (output,) = llm.generate([longer], GREEDY)
        assert [list(output.outputs[0].token_ids)] == wanted
        assert output.num_cached_tokens == 64


def test_a_run_that_was_dropped_leaves_only_what_is_right(toy):
    with open_llm(toy("llama")) as llm:
        wanted = tokens_of(llm, PROMPTS)
    with open_llm(toy("llama")) as llm:
        short = [SamplingParams(max_tokens=1)] + [GREEDY] * 3
        unfinished = llm.generate_each(PROMPTS, short)
        next(unfinished)
        unfinished.close()
        assert tokens_of(llm, PROMPTS) == wanted


def test_log_probabilities_of_prompts_are_all_computed(toy):
    params = SamplingParams(max_tokens=2, prompt_logprobs=1, ignore_eos=True)
    found = []
    for sharing in (False, True):
        with open_llm(toy("llama"), prefix_sharing=sharing) as llm:
            outputs = llm.generate(PROMPTS[:2], params)
            assert [output.num_cached_tokens for output in outputs] == [0, 0]
            found.append([output.prompt_logprobs for output in outputs])
    assert found[0] == found[1]


def test_scored_windows_share_what_comes_before_their_targets(toy):
    windows = [Window(tuple(PROMPTS[index]), range(50, len(PROMPTS[index]))) for index in (0, 2)]
    logits: list[dict] = [{}, {}]
    for sharing in (False, True):
        with open_llm(toy("llama"), prefix_sharing=sharing) as llm:

            def take(window, position, rows, into=logits[sharing]):
                into.update({(window, position + i): row.clone() for i, row in enumerate(rows)})

            llm.score(windows, take)
            assert llm.stats.cached_tokens == (48 if sharing else 0)
    assert logits[0].keys() == logits[1].keys()
    assert all(torch.equal(logits[0][key], logits[1][key]) for key in logits[0])


def test_sequences_that_are_rotated_otherwise_share_nothing(toy):
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10_000.0}
    folder = toy("llama", rope_parameters=rope, max_position_embeddings=64)
    params = [SamplingParams(max_tokens=count, ignore_eos=True) for count in (4, 5, 8, 8)]
    prompts = [[*PREFIX, tail] for tail in range(5, 9)]
    with open_llm(folder) as llm:
        outputs = llm.generate(prompts, params)
        assert [output.num_cached_tokens for output in outputs] == [0, 48, 48, 48]
