"""Prompts and sampling values in the forms that users of vLLM and transformers have."""

from __future__ import annotations

from array import array

import numpy as np
import pytest
import torch

from lm_offload import SamplingParams
from lm_offload.engine.prompt_forms import as_batch
from lm_offload.errors import RequestError


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("text", ["text"]),
        (["a", "b"], ["a", "b"]),
        (("a", "b"), ["a", "b"]),
        ((word for word in "ab"), ["a", "b"]),
        ([5, 6], [[5, 6]]),
        ((5, 6), [(5, 6)]),
        ([[5, 6], [7]], [[5, 6], [7]]),
        ({"prompt": "a"}, ["a"]),
        ([{"prompt_token_ids": [5]}, {"prompt": "a", "prompt_token_ids": None}], [[5], "a"]),
        (np.array([5, 6]), [[5, 6]]),
        (torch.tensor([[5, 6], [7, 8]]), [[5, 6], [7, 8]]),
        ([np.array([5]), torch.tensor([6])], [[5], [6]]),
        (array("i", [5, 6]), [[5, 6]]),
        ([np.int64(5), np.int64(6)], [[5, 6]]),
        ([], []),
        ([[]], [[]]),
        ([""], [""]),
    ],
)
def test_every_form_becomes_text_or_ids(given, wanted):
    assert as_batch(given) == wanted


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (None, "The prompt is None"),
        (5, "The prompt is 5"),
        (b"text", "The prompt is b'text'"),
        ([None], "Prompt 0 is None"),
        (["a", 5], "Prompt 1 is 5"),
        ([5, "a"], r"The prompt is \[5, 'a'\]"),
        ([[5, 2.5]], r"Prompt 0 is \[5, 2.5\]"),
        ({"text": "a"}, "The prompt is {'text': 'a'}"),
        ([{"prompt": None}], "Prompt 0 is {'prompt': None}"),
        ([[5, True]], r"Prompt 0 is \[5, True\]"),
        (torch.tensor([True, False]), r"The prompt is \[True, False\]"),
        ([["a", "b"]], r"Prompt 0 is \['a', 'b'\]"),
        ([[1.5] * 1000], r"\.\.\.; allowed are text"),
    ],
)
def test_what_is_no_prompt_is_shown(given, words):
    with pytest.raises(RequestError, match=words):
        as_batch(given)


@pytest.mark.parametrize(
    ("given", "same"),
    [
        ({"top_k": -1}, {}),
        ({"stop": None, "stop_token_ids": None}, {}),
        ({"stop": "end"}, {"stop": ("end",)}),
        ({"stop": ["a", "b"], "stop_token_ids": [5]}, {"stop": ("a", "b"), "stop_token_ids": (5,)}),
        ({"temperature": np.float32(0.5), "max_tokens": np.int64(3)}, None),
    ],
)
def test_other_ways_to_say_the_same(given, same):
    made = SamplingParams(**given)
    assert same is None or made == SamplingParams(**same)
    hash(made)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"max_tokens": 2.5}, "max_tokens is 2.5; allowed is a whole number"),
        ({"temperature": "0.5"}, "temperature is '0.5'; allowed is a number"),
        ({"temperature": None}, "temperature is None; allowed is a number"),
        ({"stop": {"a": 1}}, "stop is .*; allowed is strings"),
        ({"stop_token_ids": 5.5}, r"stop_token_ids is \(5.5,\); allowed is token ids"),
        ({"ignore_eos": "no"}, "ignore_eos is 'no'; allowed is True or False"),
        ({"temperature": 10**400}, "temperature is 1000"),
        ({"n": 10**9}, "allowed is 1 to 16384"),
        ({"n": "2"}, "n is '2'; allowed is a whole number"),
        ({"logprobs": 2.5}, "logprobs is 2.5; allowed is a whole number"),
        ({"logprobs": True}, "logprobs is True; allowed is a whole number"),
        ({"stop": [5]}, r"stop is \(5,\); allowed is strings"),
        ({"stop": [""]}, "non-empty strings"),
        ({"stop_token_ids": ["a"]}, "allowed is token ids"),
        ({"top_k": -2}, "top_k is -2"),
    ],
)
def test_values_of_a_wrong_kind_are_one_sentence(given, words):
    with pytest.raises(RequestError, match=words):
        SamplingParams(**given)
