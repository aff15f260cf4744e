"""Prompts that begin alike in models with recurrent layers: the same bits as computed alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_offload import LLM, SamplingParams, Workload
from lm_offload.engine.eval_windows import Window
from lm_offload.errors import ConfigError
from lm_offload.planner.decided.plan_choice import choice_of
from tests.engine.harness import (
    GREEDY,
    PLENTY,
    LogitsRecorder,
    generate,
    open_llm,
    prompts_of,
    smallest_budget,
    spilled,
    tokens_of,
)
from tests.engine.test_preemption import params_of, seen, tight
from tests.toy import RECURRENT_TYPES

(PREFIX,) = prompts_of(50)  # 3 blocks and 2 tokens
PROMPTS = [PREFIX + tail for tail in prompts_of(3, 1, 30, 17, seed=1)]
CACHED = [0, 48, 48, 48]


def computed_by(llm: LLM) -> int:
    """Rows of prompts that the last call computed."""
    return sum(sweep.prefill_tokens for sweep in llm.stats.sweeps)


def halves(rows: list) -> tuple[list, list]:
    return rows[: len(rows) // 2], rows[len(rows) // 2 :]


@pytest.mark.parametrize("model_type", RECURRENT_TYPES)
def test_logits_are_the_same_bits_as_without(toy, monkeypatch, model_type):
    recorder = LogitsRecorder(monkeypatch)
    for sharing in (False, True):
        with open_llm(toy(model_type), prefix_sharing=sharing) as llm:
            outputs = llm.generate(PROMPTS, GREEDY)
            cached = [output.num_cached_tokens for output in outputs]
            assert cached == (CACHED if sharing else [0] * 4)
            assert computed_by(llm) == sum(map(len, PROMPTS)) - sum(cached)
            assert sum(sweep.decode_tokens for sweep in llm.stats.sweeps) == 4 * 7
    apart, shared = ({row.numpy().tobytes() for row in rows} for rows in halves(recorder.rows))
    assert apart == shared  # in another order where sweeps are others


def test_small_budgets_keep_few_states_or_none(toy):
    folder = toy("qwen3_next", dtype=torch.bfloat16)
    wanted = generate(folder, PLENTY, PROMPTS, prefix_sharing=False)
    smallest = smallest_budget(folder, PROMPTS, GREEDY.max_tokens)
    kept = []
    for factor in (1, 2):
        with open_llm(folder, int(smallest * factor), overlap=factor > 1) as llm:
            assert tokens_of(llm, PROMPTS) == wanted
            kept.append(llm.plan.kept_states)
            assert llm.stats.cached_tokens == (144 if kept[-1] else 0)
    assert kept[0] == 0
    assert kept[1] > 0


def test_completions_of_one_prompt_begin_with_its_state(toy):
    params = SamplingParams(max_tokens=6, temperature=1.0, n=5, ignore_eos=True)
    found = []
    for sharing in (False, True):
        with open_llm(toy("qwen3_5_text"), prefix_sharing=sharing) as llm:
            (output,) = llm.generate([PREFIX], params)
            found.append([one.token_ids for one in output.outputs])
            assert llm.stats.cached_tokens == (4 * 48 if sharing else 0)
    assert found[0] == found[1]


def test_a_conversation_goes_on_behind_its_last_answer(toy):
    folder, params = toy("qwen3_5_text"), SamplingParams(max_tokens=20, ignore_eos=True)
    with open_llm(folder, prefix_sharing=False) as llm:
        text, wanted = list(PREFIX), []
        for turn in range(3):
            text += [*tokens_of(llm, [text], params)[0], 7 + turn, 8]
            wanted.append(list(text))
    with open_llm(folder) as llm:
        llm.load(Workload((120,), (20,)))
        text = list(PREFIX)
        for turn in range(3):
            (output,) = llm.generate([text], params)
            past = (len(wanted[turn - 1]) - 3) // 16 * 16 if turn else 0
            assert output.num_cached_tokens == past
            text += [*output.outputs[0].token_ids, 7 + turn, 8]
            assert text == wanted[turn]
        (again,) = llm.generate([PREFIX], params)  # another answer to the first question
        assert again.num_cached_tokens == 48
        assert list(again.outputs[0].token_ids) == wanted[0][50:70]


def test_without_slots_nothing_is_shared(toy):
    folder = toy("qwen3_5_text")
    with open_llm(folder) as llm:
        choice = choice_of(llm.plan_for(Workload((80,) * 4, (8,) * 4)))
    assert choice.kept_states > 0
    none, one = (replace(choice, kept_states=count) for count in (0, 1))
    wanted = generate(folder, PLENTY, PROMPTS, prefix_sharing=False)
    for plan, cached in ((none, 0), (one, sum(CACHED))):
        with open_llm(folder, plan=plan) as llm:
            assert tokens_of(llm, PROMPTS) == wanted
            assert llm.stats.cached_tokens == cached
    with open_llm(toy("llama")) as llm:
        other = choice_of(llm.plan_for(Workload((80,), (8,))))
    with pytest.raises(ConfigError, match="kept_states is 3, allowed is 0, as no layer"):
        generate(toy("llama"), PLENTY, PROMPTS, plan=replace(other, kept_states=3))


def test_keys_and_values_on_disk(toy):
    folder, workload = toy("qwen3_5_text"), Workload((80,) * 4, (8,) * 4)
    wanted = generate(folder, PLENTY, PROMPTS, prefix_sharing=False)
    plan = spilled(folder, workload, (2,), kv_group_blocks=6, kv_ring_blocks=18)
    with open_llm(folder, plan=plan) as llm:
        assert tokens_of(llm, PROMPTS) == wanted
        assert llm.stats.cached_tokens == sum(CACHED)


def test_scored_windows_and_log_probabilities(toy):
    folder = toy("qwen3_5_text")
    windows = [Window(tuple(PROMPTS[index]), range(50, len(PROMPTS[index]))) for index in (0, 2)]
    logits: list[dict] = [{}, {}]
    params = SamplingParams(max_tokens=2, prompt_logprobs=1, ignore_eos=True)
    found: list[Any] = []
    for sharing in (False, True):
        with open_llm(folder, prefix_sharing=sharing) as llm:

            def take(window, position, rows, into=logits[sharing]):
                into.update({(window, position + i): row.clone() for i, row in enumerate(rows)})

            llm.score(windows, take)
            assert llm.stats.cached_tokens == (48 if sharing else 0)
            found.append([out.prompt_logprobs for out in llm.generate(PROMPTS, params)])
    assert logits[0].keys() == logits[1].keys()
    assert all(torch.equal(logits[0][key], logits[1][key]) for key in logits[0])
    assert found[0] == found[1]


@settings(max_examples=4)
@given(
    model_type=st.sampled_from(RECURRENT_TYPES),
    lengths=st.lists(st.integers(1, 40), min_size=3, max_size=6),
    shared=st.sampled_from([0, 40]),
    spare_blocks=st.integers(0, 5),
    rows=st.integers(1, 40),
    kept_states=st.integers(0, 12),
    n=st.integers(1, 2),
    prompt_logprobs=st.sampled_from([None, 2]),
)
def test_preempted_sequences_in_several_calls(
    toy, model_type, lengths, shared, spare_blocks, rows, kept_states, n, prompt_logprobs
):
    folder, max_tokens = toy(model_type), 50
    prompts = [[5] * shared + prompt for prompt in prompts_of(*lengths)]
    params = [replace(one, n=n) for one in params_of(prompts, max_tokens, 1.0, prompt_logprobs)]
    with open_llm(folder, PLENTY, prefix_sharing=False) as llm:
        wanted = seen(llm.generate(prompts, params))
    plan = tight(
        folder,
        prompts,
        max_tokens,
        spare_blocks,
        max_sequences=6,
        sweep_tokens=6 + rows,
        micro_batch_tokens=min(16, 6 + rows),
        scored_rows=3 if prompt_logprobs is not None else 0,
        kept_states=kept_states,
    )
    with open_llm(folder, PLENTY, plan=plan) as llm:
        assert seen(llm.generate(prompts, params)) == wanted
        assert seen(llm.generate(prompts[::-1], params[::-1])) == wanted[::-1]
