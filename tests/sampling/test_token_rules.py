"""Tokens that are forbidden or favoured, against the same done one by one."""

import math
from contextlib import suppress

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lm_offload.errors import RequestError
from lm_offload.sampling import SamplingParams
from lm_offload.sampling.draw import Row, likeliest_of, sample, sample_drafted
from lm_offload.sampling.token_rules import token_rules

VOCAB = 12
END = (0, 3)
TOKENS = st.integers(0, VOCAB - 1)
WORDS = st.lists(st.lists(TOKENS, min_size=1, max_size=3), max_size=4)
OUTPUT = st.lists(TOKENS, max_size=8)
PARAMS = st.fixed_dictionaries(
    {
        "allowed_token_ids": st.none() | st.lists(TOKENS, min_size=1),
        "logit_bias": st.none() | st.dictionaries(TOKENS, st.floats(-9, 9) | st.just(-math.inf)),
        "min_tokens": st.integers(0, 6),
        "stop_token_ids": st.lists(st.integers(0, 2 * VOCAB), max_size=2),
        "temperature": st.sampled_from([0.0, 1.0, 5.0]),
        "presence_penalty": st.sampled_from([0.0, -2.0]),
        "seed": st.integers(0, 100),
        "top_k": st.integers(0, 3),
        "top_p": st.sampled_from([1.0, 0.5]),
    }
)


def one_by_one(logits, params, words, output):
    """What vLLM says of each token."""
    found = []
    for token, logit in enumerate(logits.tolist()):
        completes = any(
            word[-1] == token and output[len(output) - len(word) + 1 :] == word[:-1]
            for word in words
            if len(word) <= len(output) + 1
        )
        allowed = params.allowed_token_ids is None or token in params.allowed_token_ids
        ends = token in (*END, *params.stop_token_ids) and len(output) < params.min_tokens
        bias = (params.logit_bias or {}).get(token, 0.0)
        found.append(logit + bias if allowed and not completes and not ends else -math.inf)
    return found


def rules_of(params, words):
    """None where they may leave no token."""
    with suppress(RequestError):
        return token_rules(params, VOCAB, END, words)


@given(PARAMS, WORDS, OUTPUT, st.integers(0, 99))
def test_rules_are_those_of_each_token(values, words, output, seed):
    params = SamplingParams(**values)
    logits = torch.randn(VOCAB, generator=torch.Generator().manual_seed(seed))
    wanted = one_by_one(logits, params, words, output)
    if (rules := rules_of(params, words)) is not None:
        rules.apply(logits, output)
        assert max(wanted) > -math.inf
        assert logits.tolist() == pytest.approx(wanted, abs=1e-5)


@given(PARAMS, WORDS, OUTPUT, st.integers(0, 99))
def test_no_forbidden_token_is_drawn(values, words, output, seed):
    params = SamplingParams(**values)
    logits = torch.randn(VOCAB, generator=torch.Generator().manual_seed(seed))
    if (rules := rules_of(params, words)) is not None:
        wanted = one_by_one(logits, params, words, output)
        row = Row(params, params.seed, [1, 2], output, rules)
        (token,) = sample(logits.unsqueeze(0), [row])
        assert wanted[token] > -math.inf


@given(PARAMS, WORDS, OUTPUT, st.lists(TOKENS, max_size=4), st.integers(0, 99))
def test_drafts_change_no_token(values, words, output, draft, seed):
    params = SamplingParams(**values)
    rules = rules_of(params, words)
    logits = torch.randn(len(draft) + 1, VOCAB, generator=torch.Generator().manual_seed(seed))
    row = Row(params, params.seed, [1, 2], output, rules)
    (tokens,) = sample_drafted(logits.clone(), likeliest_of(logits), [row], [draft])
    for place, token in enumerate(tokens):
        one = Row(params, params.seed, [1, 2], [*output, *tokens[:place]], rules)
        assert sample(logits[place : place + 1], [one]) == [token]
        assert place == 0 or draft[place - 1] == tokens[place - 1]


def test_bias_comes_before_penalties_and_temperature():
    logits = torch.tensor([[1.0, 2.0, 0.0]])
    params = SamplingParams(logit_bias={2: 3.0}, repetition_penalty=4.0)
    rules = token_rules(params, 3, (), ())
    assert sample(logits, [Row(params, 0, [0], [], rules)]) == [2]  # 1 / 4, 2, 3
    assert sample(logits, [Row(params, 0, [2], [], rules)]) == [1]  # 1, 2, 3 / 4
    assert logits.tolist() == [[1.0, 2.0, 0.0]]


def test_without_rules_there_are_none():
    assert token_rules(SamplingParams(stop_token_ids=[5]), VOCAB, END, ()) is None
    assert token_rules(SamplingParams(), VOCAB, END, [[VOCAB], [5, VOCAB], [VOCAB, 5]]) is None


@pytest.mark.parametrize(
    ("values", "words", "message"),
    [
        ({"allowed_token_ids": [1, VOCAB]}, [], "allowed_token_ids has the token id 12, outside 0"),
        ({"logit_bias": {-1: 1.0}}, [], "logit_bias has the token id -1, outside 0 to 11"),
        ({"allowed_token_ids": [0, 3], "min_tokens": 1}, [], "may leave no token"),
        ({"allowed_token_ids": [5, 6]}, [[5], [7, 6]], "may leave no token"),
        ({"allowed_token_ids": [5], "logit_bias": {5: -math.inf}}, [], "may leave no token"),
        ({"logit_bias": dict.fromkeys(range(VOCAB), -1e300)}, [], "may leave no token"),
    ],
)
def test_rules_that_cannot_be_kept(values, words, message):
    with pytest.raises(RequestError, match=message):
        token_rules(SamplingParams(**values), VOCAB, END, words)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"min_tokens": -1}, "min_tokens is -1; allowed is 0 to max_tokens"),
        ({"min_tokens": 17}, "min_tokens is 17; allowed is 0 to max_tokens"),
        ({"min_tokens": None}, "min_tokens is None; allowed is a whole number"),
        ({"logit_bias": [5]}, r"logit_bias is \[5\]; allowed is numbers up to 1e\+06 by token id"),
        ({"logit_bias": {"a": 1}}, "logit_bias is {'a': 1}"),
        ({"logit_bias": {1: "b"}}, "logit_bias is {1: 'b'}"),
        ({"logit_bias": {1: math.nan}}, "logit_bias is {1: nan}"),
        ({"logit_bias": {1: math.inf}}, "logit_bias is {1: inf}"),
        ({"logit_bias": {1: True}}, "logit_bias is {1: True}"),
        ({"logit_bias": {1.5: 1}}, "logit_bias is {1.5: 1}"),
        ({"bad_words": [""]}, "bad_words is .*; allowed is non-empty strings"),
        ({"bad_words": [5]}, "bad_words is .*; allowed is strings"),
        ({"allowed_token_ids": []}, r"allowed_token_ids is \(\); allowed is none, or at least one"),
        ({"allowed_token_ids": ["a"]}, "allowed_token_ids is .*; allowed is token ids"),
        ({"include_stop_str_in_output": 1}, "include_stop_str_in_output is 1; allowed is True or"),
        ({"skip_special_tokens": None}, "skip_special_tokens is None; allowed is True or False"),
        ({"truncate_prompt_tokens": 0}, "truncate_prompt_tokens is 0; allowed is none, -1"),
        ({"truncate_prompt_tokens": -2}, "truncate_prompt_tokens is -2"),
    ],
)
def test_values_that_are_none(values, words):
    with pytest.raises(RequestError, match=words):
        SamplingParams(**values)


def test_other_ways_to_say_the_same():
    said = SamplingParams(logit_bias={"5": 1}, bad_words="a", allowed_token_ids=torch.arange(3))
    same = SamplingParams(logit_bias={5: 1.0}, bad_words=["a"], allowed_token_ids=(0, 1, 2))
    assert said == same
    assert hash(said) == hash(same)


def test_numbers_of_arrays_and_large_ones_are_python_s_own():
    made = SamplingParams(max_tokens=np.int64(3), temperature=2**70, repetition_penalty=10**30)
    assert (type(made.max_tokens), made.temperature) == (int, 2.0**70)
    row = Row(made, 0, [1], [])
    assert sample(torch.zeros(1, VOCAB), [row])[0] in range(VOCAB)
    with pytest.raises(RequestError, match=r"top_k is array.*; allowed is a whole number"):
        SamplingParams(top_k=np.array([1, 2]))


def test_a_clone_is_another_object_with_other_values_where_wanted():
    params = SamplingParams(max_tokens=9, logit_bias={1: 2.0}, stop="a")
    assert params.clone() == params
    assert params.clone() is not params
    assert params.clone().logit_bias is not params.logit_bias
    assert params.clone(seed=4) == SamplingParams(
        max_tokens=9, logit_bias={1: 2.0}, stop="a", seed=4
    )
