"""Tokens that a draft model guesses change nothing but how many come at once."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from lm_offload import SamplingParams
from lm_offload.engine import draft_plan, planned
from lm_offload.engine.model_drafts import ModelDrafts
from lm_offload.errors import BudgetError, CheckpointError, ConfigError
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

PROMPTS = prompts_of(20, 27, 5, 34)
LONG = SamplingParams(max_tokens=16, ignore_eos=True)
OFF = {"speculation": "off"}
PACE = 8.0  # seconds of a draft step over those predicted: toys are all overhead
UNRELATED = {"num_hidden_layers": 1, "seed": 7}


def drafted_by(folder):
    """Options of an engine that always takes what this model says."""
    return {"speculation": "draft-model", "draft_model": folder}


def both(folder, draft, params=LONG, **options):
    """Outputs without and with a draft model, and the share of its tokens that were right."""
    with open_llm(folder, **OFF, **options) as llm:
        wanted = llm.generate(PROMPTS, params)
    with open_llm(folder, **drafted_by(draft), **options) as llm:
        found = llm.generate(PROMPTS, params)
        return wanted, found, llm.stats.accepted / llm.stats.drafted


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_a_model_that_drafts_for_itself_is_always_right(toy, model_type):
    folder = toy(model_type)
    wanted, found, share = both(folder, folder)
    assert [it.outputs[0].token_ids for it in found] == [it.outputs[0].token_ids for it in wanted]
    assert share == 1


@pytest.mark.parametrize(
    "values",
    [
        {"temperature": 0.8, "seed": 3},
        {"temperature": 1.5, "top_k": 40, "n": 3, "logprobs": 2},
        {"temperature": 0.7, "repetition_penalty": 1.3, "frequency_penalty": 0.1},
        {"logprobs": 3, "prompt_logprobs": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("itself", [True, False])
def test_drawn_tokens_are_the_same_whoever_drafts(toy, values, itself):
    params = replace(LONG, **values)
    draft = toy("llama") if itself else toy("opt", **UNRELATED)
    wanted, found, share = both(toy("llama"), draft, params)
    assert [it.outputs for it in found] == [it.outputs for it in wanted]
    assert [it.prompt_logprobs for it in found] == [it.prompt_logprobs for it in wanted]
    assert share == 1 if itself else share < 0.5


@settings(max_examples=4)
@given(
    model_type=st.sampled_from(["llama", "gemma3_text", "opt"]),
    kv_format=st.sampled_from(["fp32", "bf16", "int8", "int4"]),
    factor=st.floats(1, 3),
    order=st.permutations(range(len(PROMPTS))),
    itself=st.booleans(),
)
def test_any_budget_batch_and_kv_format(toy, model_type, kv_format, factor, order, itself):
    folder, prompts = toy(model_type), [PROMPTS[index] for index in order]
    draft = folder if itself else toy("qwen3", **UNRELATED)
    with open_llm(folder, kv_format=kv_format, **OFF) as llm:
        alone = [tokens_of(llm, [prompt], LONG)[0] for prompt in prompts]
    options = {"kv_format": kv_format, **drafted_by(draft)}
    smallest = smallest_budget(folder, prompts, LONG.max_tokens, **options)
    with open_llm(folder, int(factor * smallest), **options) as llm:
        assert tokens_of(llm, prompts, LONG) == alone
        assert llm.stats.drafted
        assert llm.plan.used_bytes <= llm.plan.budget_bytes <= int(factor * smallest)


def test_the_draft_models_bytes_are_in_the_table(toy):
    with open_llm(toy("llama"), **drafted_by(toy("llama", **UNRELATED))) as llm:
        tokens_of(llm, PROMPTS, LONG)
        plan = llm.plan
    rows = [size for name, size in plan.memory if name.startswith("draft model")]
    assert sum(rows) == plan.draft.used_bytes
    assert not plan.draft.streamed
    assert plan.predicted.peak_bytes["cpu"] == plan.used_bytes


def test_more_sequences_than_the_draft_model_has_room_for(toy):
    folder, prompts = toy("llama"), prompts_of(*range(3, 24))
    with open_llm(folder, **OFF) as llm:
        wanted = tokens_of(llm, prompts, LONG)
    with open_llm(folder, **drafted_by(folder)) as llm:
        assert tokens_of(llm, prompts, LONG) == wanted
        assert llm.plan.draft.max_sequences < llm.plan.max_sequences
        assert 0 < llm.stats.accepted == llm.stats.drafted


@pytest.mark.parametrize("shared", [True, False])
def test_prompts_that_begin_alike(toy, shared):
    start = prompts_of(40)[0]
    prompts = [[*start, *prompt] for prompt in PROMPTS]
    with open_llm(toy("llama"), prefix_sharing=shared, **OFF) as llm:
        wanted = tokens_of(llm, prompts, LONG)
    options = drafted_by(toy("llama", **UNRELATED))
    with open_llm(toy("llama"), prefix_sharing=shared, **options) as llm:
        assert [tokens_of(llm, prompts, LONG) for _ in range(2)] == [wanted] * 2


def test_sequences_end_where_they_ended(toy):
    folder = toy("llama", max_position_embeddings=50)
    options = drafted_by(folder)
    with open_llm(folder, **OFF) as llm:
        plain = tokens_of(llm, PROMPTS, SamplingParams(max_tokens=99, ignore_eos=True))
    with open_llm(folder, **options) as llm:
        for count in (1, 2, 3, 7, 99):
            params = SamplingParams(max_tokens=count, ignore_eos=True)
            assert tokens_of(llm, PROMPTS, params) == [tokens[:count] for tokens in plain]
        stop = plain[0][9]
        params = SamplingParams(max_tokens=99, ignore_eos=True, stop_token_ids=(stop,))
        (output,) = llm.generate([PROMPTS[0]], params)[0].outputs
    assert output.token_ids == plain[0][: plain[0].index(stop) + 1]


def test_a_draft_model_with_a_shorter_context_drafts_as_far_as_it_can(toy):
    draft = toy("llama", max_position_embeddings=30)
    wanted, found, _ = both(toy("llama"), draft)
    assert [it.outputs[0].token_ids for it in found] == [it.outputs[0].token_ids for it in wanted]
    assert [bool(it.outputs[0].drafted) for it in found] == [True, True, True, False]


def test_a_run_that_was_given_up_leaves_room_for_the_next(toy):
    with open_llm(toy("llama"), **drafted_by(toy("llama"))) as llm:
        wanted = tokens_of(llm, PROMPTS, LONG)
        for _ in range(3):
            outputs = llm.generate_each(PROMPTS, [replace(LONG, max_tokens=4), *[LONG] * 3])
            next(outputs)
            outputs.close()
        assert tokens_of(llm, PROMPTS, LONG) == wanted
        assert llm.stats.accepted == llm.stats.drafted > 0


def deep_and_shallow(toy, tmp_path):
    """A model whose layers after the first add nothing, and the same without them."""
    deep, shallow = tmp_path / "deep", tmp_path / "shallow"
    shutil.copytree(toy("llama", num_hidden_layers=14), deep)
    shutil.copytree(toy("llama", num_hidden_layers=1), shallow)
    weights = load_file(deep / "model.safetensors")
    for name, weight in weights.items():
        if name.endswith(("o_proj.weight", "down_proj.weight")) and ".layers.0." not in name:
            weight.zero_()
    names = load_file(shallow / "model.safetensors")
    save_file(weights, deep / "model.safetensors", metadata={"format": "pt"})
    same = {name: weights[name] for name in names}
    save_file(same, shallow / "model.safetensors", metadata={"format": "pt"})
    return deep, shallow


def test_auto_takes_a_good_draft_model_and_soon_leaves_a_bad_one(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(planned, "spill_room_bytes", lambda folder: 0)  # fewer plans to look at
    # Not by the clock: on a busy machine steps may take too long to be worth it.
    monkeypatch.setattr(ModelDrafts, "_measure", lambda self: setattr(self, "_pace", PACE))
    folder, good = deep_and_shallow(toy, tmp_path)
    prompts, params = PROMPTS[:1], SamplingParams(max_tokens=60, ignore_eos=True)
    drafts = {"good": good, "bad": toy("llama", **UNRELATED)}
    with open_llm(folder, "1280KiB", **OFF) as llm:
        wanted = tokens_of(llm, prompts, params)
    tried = {}
    for name, draft in drafts.items():
        with open_llm(folder, "1280KiB", draft_model=draft) as llm:
            assert tokens_of(llm, prompts, params) == wanted
            assert llm.plan.streamed
            assert llm.plan.draft
            tried[name] = llm.stats.drafted, llm.stats.accepted
            rows = llm.plan.draft_rows
    most = (60 - 1) * rows // (rows + 1)  # as many as the plan has rows for, in every sweep
    assert tried["good"] == (most, most)
    assert tried["bad"][0] < 20


def test_a_bad_draft_model_leaves_its_memory_in_a_long_run(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(planned, "spill_room_bytes", lambda folder: 0)  # fewer plans to look at
    monkeypatch.setattr(draft_plan, "CAUTION", 0.1)  # as in a run ten times as long
    monkeypatch.setattr(ModelDrafts, "_measure", lambda self: setattr(self, "_pace", PACE))
    folder, good = deep_and_shallow(toy, tmp_path)
    prompts, params = PROMPTS[:1], SamplingParams(max_tokens=160, ignore_eos=True)
    with open_llm(folder, "1472KiB", **OFF) as llm:
        wanted, alone = tokens_of(llm, prompts, params), llm.plan
    for draft, leaves in ((good, False), (toy("llama", **UNRELATED), True)):
        with open_llm(folder, "1472KiB", draft_model=draft) as llm:
            assert tokens_of(llm, prompts, params) == wanted
            assert (llm.plan.draft is None) == leaves
            if leaves:
                assert llm.plan.streamed_bytes == alone.streamed_bytes
                assert tokens_of(llm, prompts, params) == wanted
                assert not llm.stats.drafted


def test_auto_leaves_the_memory_to_the_model_where_drafts_cannot_pay(toy):
    cpu = replace(PROFILE.cpu, memory_bytes_per_s=1e12)  # resident: all time is computing
    with open_llm(toy("llama"), draft_model=toy("llama", **UNRELATED)) as llm:
        llm.profile = replace(PROFILE, cpu=cpu)
        tokens_of(llm, PROMPTS, LONG)
        assert llm.plan.draft is None
        assert not llm.stats.drafted


def test_the_smallest_budget_for_both_is_told_and_works(toy):
    folder, draft = toy("llama"), toy("llama", **UNRELATED)
    with (
        open_llm(folder, 1 << 10, **drafted_by(draft)) as llm,
        pytest.raises(BudgetError, match=r"the draft model takes .* leave --draft-model out:\n"),
    ):
        tokens_of(llm, PROMPTS, LONG)
    with open_llm(folder, **OFF) as llm:
        wanted = tokens_of(llm, PROMPTS[:2], LONG)
    smallest = smallest_budget(folder, PROMPTS[:2], LONG.max_tokens, **drafted_by(draft))
    with open_llm(folder, smallest, **drafted_by(draft)) as llm:
        assert tokens_of(llm, PROMPTS[:2], LONG) == wanted
        assert llm.plan.draft.max_sequences == 1


def test_a_given_plan_runs_beside_a_draft_model(toy):
    folder = toy("llama")
    with open_llm(folder, **drafted_by(folder)) as llm:
        wanted = tokens_of(llm, PROMPTS, LONG)
        choice = choice_of(llm.plan)
    with open_llm(folder, PLENTY, plan=choice, **drafted_by(folder)) as llm:
        assert tokens_of(llm, PROMPTS, LONG) == wanted
        assert llm.stats.drafted


@pytest.mark.parametrize("speculation", ["off", "prompt-lookup"])
def test_options_that_exclude_one_another_are_refused(toy, speculation):
    with pytest.raises(ConfigError, match="draft model was given and speculation is"):
        open_llm(toy("llama"), draft_model=toy("llama"), speculation=speculation)
    with pytest.raises(ConfigError, match="no draft model was given"):
        open_llm(toy("llama"), speculation="draft-model")


def test_another_vocabulary_is_refused(toy, tmp_path):
    with pytest.raises(ConfigError, match=r"another vocabulary \(99 tokens\) than .* \(131\)"):
        open_llm(toy("llama"), draft_model=toy("llama", vocab_size=99))
    folders = [tmp_path / name for name in "abcd"]
    vocabularies = [{"x": 0, "y": 1}, [["x", -1.0], ["y", -2.0]], {"y": 0, "x": 1}, None]
    for folder, vocab in zip(folders, vocabularies, strict=True):
        shutil.copytree(toy("llama"), folder)
        (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocab}}))
    open_llm(folders[0], draft_model=folders[1]).close()
    with pytest.raises(ConfigError, match=r"d?raft model c has another vocabulary"):
        open_llm(folders[0], draft_model=folders[2])
    with pytest.raises(CheckpointError, match=r"tokenizer\.json of d cannot be read"):
        open_llm(folders[0], draft_model=folders[3])


def test_padded_vocabularies_of_one_tokenizer_may_differ(toy, tmp_path):
    big, small = tmp_path / "big", tmp_path / "small"
    shutil.copytree(toy("llama"), big)
    shutil.copytree(toy("llama", vocab_size=64), small)
    for folder in (big, small):
        (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": {"x": 0}}}))
    prompts = [[token % 64 for token in prompt] for prompt in PROMPTS]
    for folder, draft in ((big, small), (small, big)):
        with open_llm(folder, **OFF) as llm:
            wanted = tokens_of(llm, prompts, LONG)
        with open_llm(folder, **drafted_by(draft)) as llm:
            assert tokens_of(llm, prompts, LONG) == wanted
            assert llm.stats.drafted


def test_weights_that_are_no_numbers_are_told(toy, tmp_path):
    bad = tmp_path / "bad"
    shutil.copytree(toy("llama"), bad)
    weights = load_file(bad / "model.safetensors")
    weights["lm_head.weight"][:] = torch.nan
    save_file(weights, bad / "model.safetensors", metadata={"format": "pt"})
    with (
        open_llm(toy("llama"), **drafted_by(bad)) as llm,
        pytest.raises(CheckpointError, match="holds NaN"),
    ):
        tokens_of(llm, PROMPTS, LONG)
