"""Several tokens of a sweep are those that come one by one, however they are asked for."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_offload import SamplingParams
from lm_offload.demo import demo_path
from lm_offload.errors import ConfigError
from lm_offload.planner.decided.plan_choice import choice_of
from tests.engine.harness import (
    PLENTY,
    PROFILE,
    open_llm,
    prompts_of,
    smallest_budget,
    tokens_of,
)
from tests.toy import MODEL_TYPES

VOCAB = {"vocab_size": 10}  # so few that random text repeats itself
PROMPTS = [[token % 10 for token in prompt] for prompt in prompts_of(20, 27, 5, 34)]
LONG = SamplingParams(max_tokens=40, ignore_eos=True)
SHORT = SamplingParams(max_tokens=4, ignore_eos=True)
FORCED = {"speculation": "prompt-lookup"}
OFF = {"speculation": "off"}


def both(folder, params, prompts=PROMPTS, budget=PLENTY, **options):
    """Outputs without and with drafts, of which some were accepted."""
    with open_llm(folder, budget, **OFF, **options) as llm:
        wanted = llm.generate(prompts, params)
        assert llm.stats.drafted == 0
    with open_llm(folder, budget, **FORCED, **options) as llm:
        found = llm.generate(prompts, params)
        assert 0 < llm.stats.accepted <= llm.stats.drafted
    return wanted, found


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_greedy_tokens_are_the_same(toy, model_type):
    wanted, found = both(toy(model_type, **VOCAB), LONG)
    assert [it.outputs[0].token_ids for it in found] == [it.outputs[0].token_ids for it in wanted]


@settings(max_examples=8)
@given(
    model_type=st.sampled_from(["llama", "gemma3_text", "opt"]),
    kv_format=st.sampled_from(["fp32", "bf16", "int8", "int4"]),
    factor=st.floats(1, 3),
    order=st.permutations(range(len(PROMPTS))),
)
def test_any_budget_batch_and_kv_format(toy, model_type, kv_format, factor, order):
    folder, prompts = toy(model_type, **VOCAB), [PROMPTS[index] for index in order]
    with open_llm(folder, kv_format=kv_format, **OFF) as llm:
        alone = [tokens_of(llm, [prompt], LONG)[0] for prompt in prompts]
    smallest = smallest_budget(folder, prompts, LONG.max_tokens, kv_format=kv_format, **FORCED)
    with open_llm(folder, int(factor * smallest), kv_format=kv_format, **FORCED) as llm:
        assert tokens_of(llm, prompts, LONG) == alone
        assert llm.stats.accepted


@pytest.mark.parametrize(
    "values",
    [
        {"temperature": 0.1, "seed": 3},
        {"temperature": 0.3, "top_k": 4, "n": 3},
        {"temperature": 0.4, "top_p": 0.5, "min_p": 0.1, "logprobs": 2},
        {"repetition_penalty": 1.1},
        {"temperature": 0.1, "presence_penalty": 0.3, "frequency_penalty": 0.1, "seed": 5},
        {"logprobs": 3, "prompt_logprobs": 1},
    ],
    ids=str,
)
def test_drawn_tokens_and_their_log_probabilities_are_the_same(toy, values):
    params = SamplingParams(max_tokens=40, ignore_eos=True, **values)
    wanted, found = both(toy("llama", **VOCAB), params)
    for before, after in zip(wanted, found, strict=True):
        assert after.outputs == before.outputs
        assert after.prompt_logprobs == before.prompt_logprobs
        assert len(after.outputs) == params.n


def test_a_request_does_not_depend_on_the_others(toy):
    params = [
        SamplingParams(max_tokens=20 + 7 * index, temperature=0.2 * index, seed=9, ignore_eos=True)
        for index in range(len(PROMPTS))
    ]
    with open_llm(toy("llama", **VOCAB), **FORCED) as llm:
        together = tokens_of(llm, PROMPTS, params)
        alone = [tokens_of(llm, [p], q)[0] for p, q in zip(PROMPTS, params, strict=True)]
    assert together == alone
    assert [len(tokens) for tokens in together] == [20, 27, 34, 41]


def test_a_stop_token_among_several_ends_the_sequence_there(toy):
    (plain,) = generate_long(toy)
    for stop in set(plain):
        params = SamplingParams(max_tokens=40, ignore_eos=True, stop_token_ids=(stop,), logprobs=0)
        with open_llm(toy("llama", **VOCAB), **FORCED) as llm:
            (output,) = llm.generate([PROMPTS[0]], params)[0].outputs
        end = plain.index(stop) + 1
        assert (output.token_ids, output.finish_reason) == (plain[:end], "stop")
        assert len(output.logprobs) == end


@pytest.mark.parametrize("count", range(1, 9))
def test_never_more_tokens_than_asked_for(toy, count):
    (plain,) = generate_long(toy)
    params = SamplingParams(max_tokens=count, ignore_eos=True)
    with open_llm(toy("llama", **VOCAB), **FORCED) as llm:
        assert tokens_of(llm, [PROMPTS[0]], params) == [plain[:count]]


def generate_long(toy):
    with open_llm(toy("llama", **VOCAB), **OFF) as llm:
        return tokens_of(llm, [PROMPTS[0]], LONG)


def test_the_context_ends_where_it_ended(toy):
    folder = toy("llama", **VOCAB, max_position_embeddings=50)
    params = SamplingParams(max_tokens=99, ignore_eos=True)
    wanted, found = both(folder, params)
    assert [it.outputs for it in found] == [it.outputs for it in wanted]
    assert [len(it.outputs[0].token_ids) + len(it.prompt_token_ids) for it in found] == [50] * 4


def test_records_count_tokens_and_drafts(toy):
    with open_llm(toy("llama", **VOCAB), **FORCED) as llm:
        outputs, stats = llm.generate(PROMPTS, LONG), llm.stats
    decoded = sum(len(it.outputs[0].token_ids) - 1 for it in outputs)
    assert sum(sweep.decode_tokens for sweep in stats.sweeps) == decoded
    completions = [it.outputs[0] for it in outputs]
    assert sum(it.drafted for it in completions) == stats.drafted
    assert sum(it.accepted for it in completions) == stats.accepted < stats.drafted
    assert len(stats.decode) < LONG.max_tokens - 1
    assert stats.tpot_s < stats.decode_s / len(stats.decode)


def test_a_run_that_was_given_up_leaves_nothing_behind(toy):
    with open_llm(toy("llama", **VOCAB), **FORCED) as llm:
        wanted = tokens_of(llm, PROMPTS[::-1], LONG)
        outputs = llm.generate_each(PROMPTS, [SHORT, *[LONG] * 3])
        next(outputs)
        outputs.close()
        assert tokens_of(llm, PROMPTS[::-1], LONG) == wanted


def test_auto_drafts_where_rows_are_predicted_to_be_free(toy):
    folder = toy("llama", **VOCAB, hidden_size=192, intermediate_size=528)
    smallest = smallest_budget(folder, PROMPTS[:1], LONG.max_tokens)
    budget = smallest * 7 // 5  # of which some is left, too little for one more unit
    with open_llm(folder, budget, **OFF) as llm:
        wanted = tokens_of(llm, PROMPTS[:1], LONG)
        assert llm.plan.streamed
        assert llm.plan.logit_rows == 1
    with open_llm(folder, budget) as llm:
        assert tokens_of(llm, PROMPTS[:1], LONG) == wanted
        assert llm.plan.logit_rows == 1 + llm.plan.draft_rows > 1
        assert llm.stats.drafted


def test_auto_is_off_where_every_row_costs_what_it_may_bring(toy):
    cpu = replace(PROFILE.cpu, memory_bytes_per_s=1e12)  # resident: all time is computing
    with open_llm(toy("llama", **VOCAB)) as llm:
        llm.profile = replace(PROFILE, cpu=cpu)
        tokens_of(llm, PROMPTS, LONG)
        assert not llm.plan.draft_rows
        assert llm.stats.drafted == 0


def test_ways_that_cannot_be_are_refused(toy):
    folder = toy("llama", **VOCAB)
    with pytest.raises(ConfigError, match="speculation is 'always'; allowed are auto, off"):
        open_llm(folder, speculation="always")
    with open_llm(folder, **OFF) as llm:
        tokens_of(llm, PROMPTS, LONG)
        choice = choice_of(llm.plan)
    with pytest.raises(ConfigError, match="the given plan has no draft_rows; put some"):
        open_llm(folder, plan=choice, **FORCED)
    with open_llm(folder, plan=choice) as llm:
        tokens_of(llm, PROMPTS, LONG)
        assert llm.stats.drafted == 0


def test_text_is_the_same_as_a_whole_and_as_a_stream():
    prompt = "def area(width, height):\n    return width * height\n\n\n" * 3 + "def area("
    plain = SamplingParams(max_tokens=32, frequency_penalty=-2, ignore_eos=True)  # soon a loop
    with open_llm(demo_path(), **OFF) as llm:
        text = llm.generate(prompt, plain)[0].text
        ended = replace(plain, stop=(text[len(text) // 2 :][:3],))
        wanted = [llm.generate(prompt, params)[0].outputs[0] for params in (plain, ended)]
    assert [output.finish_reason for output in wanted] == ["length", "stop"]
    accepted = 0
    with open_llm(demo_path(), **FORCED) as llm:
        for params, output in zip((plain, ended), wanted, strict=True):
            assert "".join(llm.stream(prompt, params)) == output.text
            accepted += llm.stats.accepted
            assert llm.generate(prompt, params)[0].outputs == (output,)
    assert accepted
