"""Forms that come after reasoning, over the demo model's tokenizer with tags and channels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tokenizers import AddedToken, Tokenizer

from lm_offload.demo import demo_path
from lm_offload.errors import RequestError
from lm_offload.sampling import StructuredOutputs
from lm_offload.sampling.grammars import Grammars
from lm_offload.sampling.reasoning_ways import begins_within

END = 0
MARKS = ("<|channel|>", "<|message|>", "<|start|>", "<|end|>")
FORMS = [
    StructuredOutputs(json={"const": "it"}, after_reasoning="qwen3"),
    StructuredOutputs(regex='"it"', after_reasoning="glm45"),
    StructuredOutputs(choice=['"it"', "other"], after_reasoning="qwen3"),
    StructuredOutputs(grammar='root ::= "\\"it\\""', after_reasoning="deepseek_r1"),
]
CHANNELS = StructuredOutputs(regex='"it"', after_reasoning="openai_gptoss")


@pytest.fixture(scope="module", params=["letters", "tokens"])
def tokenizer(request) -> Tokenizer:
    """Tags are one token each, or several as others."""
    made = Tokenizer.from_file(str(demo_path() / "tokenizer.json"))
    made.add_special_tokens([AddedToken(mark, special=True) for mark in MARKS])
    if request.param == "tokens":
        made.add_tokens([AddedToken(tag, special=False) for tag in ("<think>", "</think>")])
    return made


@pytest.fixture(scope="module")
def grammars(tokenizer) -> Grammars:
    return Grammars(tokenizer.to_str(), tokenizer.get_vocab_size(), [END])


def follows(guide, tokenizer, text: str) -> bool:
    """Whether every token of the text may come, and then the end."""
    ids = [*tokenizer.encode(text).ids, END]
    for place, token in enumerate(ids):
        logits = torch.zeros(tokenizer.get_vocab_size())
        guide.apply(logits, ids[:place])
        if guide.error or not np.isfinite(logits[token].item()):
            return False
    return True


@pytest.mark.parametrize("wanted", FORMS)
def test_the_form_comes_at_once_or_after_reasoning(grammars, tokenizer, wanted):
    def is_taken(text: str, within: bool) -> bool:
        return follows(grammars.guide(wanted, within), tokenizer, text)

    assert is_taken('"it"', within=False)
    assert is_taken('<think>\nMaybe "it" {or} é.\n</think>\n\n"it"', within=False)
    assert is_taken('Maybe "it".\n</think>\n\n"it"', within=True)
    assert is_taken('<think>Maybe.</think>"it"', within=True)
    assert not is_taken('Maybe.</think>"it"', within=False)
    assert not is_taken(' "it"', within=False)
    assert not is_taken('<think>Maybe.</think>So "it"', within=False)
    assert not is_taken("<think>Maybe.", within=False)
    assert not is_taken("Maybe.", within=True)


def test_channels_are_free_but_for_the_last(grammars, tokenizer):
    def is_taken(text: str) -> bool:
        return follows(grammars.guide(CHANNELS), tokenizer, text)

    thought = "<|channel|>analysis<|message|>Maybe\n.<|end|><|start|>assistant"
    assert is_taken(f'{thought}<|channel|>final<|message|>"it"')
    assert is_taken('<|channel|>final<|message|>"it"')
    assert not is_taken(f"{thought}<|channel|>final<|message|>So")
    assert not is_taken('"it"')


def test_a_place_is_followed_back_into_reasoning(grammars, tokenizer):
    guide = grammars.guide(FORMS[1])
    whole = tokenizer.encode('<think>Maybe.</think>"it"').ids
    assert not guide.is_complete(whole[:-1])
    assert guide.is_complete(whole)
    assert not guide.is_complete(whole[:4])
    assert guide.copy().is_complete(whole)


@pytest.mark.parametrize("way", ["think", "openai", ""])
def test_other_ways_are_refused(way):
    with pytest.raises(RequestError, match="after_reasoning"):
        StructuredOutputs(regex="a", after_reasoning=way)


def test_prompts_may_end_within_reasoning():
    assert begins_within("qwen3", "assistant\n<think>\n")
    assert not begins_within("qwen3", "assistant\n<think>\n\n</think>\n\n")
    assert not begins_within("openai_gptoss", "<think>")
    assert begins_within("deepseek_r1", "assistant")
