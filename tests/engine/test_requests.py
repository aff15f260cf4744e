"""Prompts and options that cannot be served, and where generation ends."""

from __future__ import annotations

import json
import shutil

import pytest

from lm_offload import LLM, SamplingParams
from lm_offload.errors import BudgetError, CheckpointError, ConfigError, RequestError
from lm_offload.hardware.limits import allowed_cores
from tests.engine.harness import GREEDY, open_llm, prompts_of, tokens_of
from tests.toy import MAX_POSITIONS, VOCAB_SIZE


@pytest.fixture(scope="module")
def llm(toy):
    with open_llm(toy("llama")) as llm:
        yield llm


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ([[5], []], "Prompt 1 has no tokens"),
        ([[VOCAB_SIZE]], f"Prompt 0 has a token id outside 0 to {VOCAB_SIZE - 1}"),
        ([[5, -1]], "Prompt 0 has a token id outside"),
        ([[5] * MAX_POSITIONS], f"Prompt 0 has {MAX_POSITIONS} tokens, the model's context is"),
    ],
)
def test_prompts_that_cannot_be_served(llm, prompts, message):
    with pytest.raises(RequestError, match=message):
        llm.generate(prompts, GREEDY)


def test_parameters_for_another_number_of_prompts(llm):
    with pytest.raises(RequestError, match="2 sampling parameters were given for 3 prompts"):
        llm.generate(prompts_of(3, 4, 5), [GREEDY] * 2)


def test_without_a_limit_output_fills_the_context(llm):
    (prompt,) = prompts_of(6)
    (output,) = llm.generate([prompt], SamplingParams(max_tokens=None, ignore_eos=True))
    assert len(output.outputs[0].token_ids) == MAX_POSITIONS - 6
    assert output.outputs[0].finish_reason == "length"


def test_without_a_seed_each_request_draws_its_own(llm):
    params = SamplingParams(max_tokens=20, temperature=1.0, seed=None, n=2)
    found = [
        tuple(one.token_ids)
        for _ in range(2)
        for output in llm.generate(prompts_of(6) * 2, params)
        for one in output.outputs
    ]
    assert len(set(found)) == len(found) == 8


def test_no_prompts_give_no_outputs(llm):
    assert llm.generate([], GREEDY) == []


def test_a_list_of_ids_is_one_prompt(llm):
    (prompt,) = prompts_of(6)
    (output,) = llm.generate(prompt, GREEDY)
    assert output.prompt_token_ids == prompt
    assert output.outputs[0].token_ids == tokens_of(llm, [prompt])[0]


def test_text_needs_a_tokenizer_and_ids_do_not(llm):
    assert len(tokens_of(llm, prompts_of(4))[0]) == GREEDY.max_tokens
    with pytest.raises(
        CheckpointError, match=r"tokenizer that can be loaded \(there is no tokenizer\.json\)"
    ):
        llm.generate("text", GREEDY)


def test_output_ends_with_the_context(llm):
    params = SamplingParams(max_tokens=1000, ignore_eos=True)
    (output,) = llm.generate(prompts_of(MAX_POSITIONS - 6), params)
    assert len(output.outputs[0].token_ids) == 6
    assert output.outputs[0].finish_reason == "length"


def test_output_ends_with_the_end_token_unless_it_is_ignored(llm, toy, tmp_path):
    prompt = prompts_of(7)
    (tokens,) = tokens_of(llm, prompt)
    end = tokens[3]
    folder = shutil.copytree(toy("llama"), tmp_path / "model")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [1, end]}))
    wanted = tokens[: tokens.index(end) + 1]
    with open_llm(folder) as other:
        (output,) = other.generate(prompt, SamplingParams(max_tokens=8))
        assert output.outputs[0].token_ids == wanted
        assert output.outputs[0].finish_reason == "stop"
        assert tokens_of(other, prompt, GREEDY) == [tokens]


@pytest.mark.parametrize("length", [1, 2, 8])
def test_max_tokens_is_exact(llm, length):
    (output,) = llm.generate(prompts_of(5), SamplingParams(max_tokens=length, ignore_eos=True))
    assert len(output.outputs[0].token_ids) == length
    assert output.outputs[0].finish_reason == "length"


@pytest.mark.parametrize("budget", ["0", -1, "8 GiBs", "0%"])
def test_budgets_that_are_none(toy, budget):
    with pytest.raises(ConfigError):
        open_llm(toy("llama"), budget)


def test_a_budget_below_what_is_free_is_taken_without_a_word(toy, caplog):
    with open_llm(toy("llama"), "1%") as llm:
        assert llm.budget_bytes > 0
    assert "CPU memory budget" not in caplog.text


def test_a_budget_above_what_is_free_is_a_warning(toy, caplog):
    open_llm(toy("llama"), 1 << 60).close()
    assert "is more than the" in caplog.text


def test_a_budget_too_small_for_one_unit_shows_the_table(toy):
    with open_llm(toy("llama"), "20KiB") as llm, pytest.raises(BudgetError) as caught:
        llm.generate(prompts_of(5), GREEDY)
    assert "A CPU memory budget of 20.00 KiB was given" in str(caught.value)
    assert "staging ring" in str(caught.value)


@pytest.mark.parametrize("threads", [0, -1, 10_000])
def test_threads_that_are_not_allowed(toy, threads):
    with pytest.raises(ConfigError, match=f"allowed are 1 to {allowed_cores()}"):
        LLM(toy("llama"), threads=threads)
