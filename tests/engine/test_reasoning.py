"""Reasoning told from what is said: whole texts, and in any pieces."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_offload.engine.channels import CALL, MARKS, ChannelText
from lm_offload.engine.reasoning import hides, reader_for, template_way
from lm_offload.engine.tagged_text import TaggedText
from lm_offload.engine.text_parts import NOTHING, Parts
from lm_offload.sampling.reasoning_ways import CLOSE, OPEN

TAGGED = [  # text, of a prompt that says nothing, of one that opens reasoning
    ("<think>\nTwo.\n</think>\n\nFour.", Parts("Two.", "Four."), Parts("Two.", "Four.")),
    ("\nTwo.</think>Four. ", Parts("", "\nTwo.</think>Four. "), Parts("Two.", "Four. ")),
    ("<think></think>Four.", Parts("", "Four."), Parts("", "Four.")),
    ("</think>Four.", Parts("", "</think>Four."), Parts("", "Four.")),
    ("<think>Two <", Parts("Two <", ""), Parts("Two <", "")),
    ("<think>Two </thin", Parts("Two </thin", ""), Parts("Two </thin", "")),
    ("<thi", Parts("", "<thi"), Parts("<thi", "")),
    ("Four <think>", Parts("", "Four <think>"), Parts("Four <think>", "")),
    ("<think>a</think>b</think>c", Parts("a", "b</think>c"), Parts("a", "b</think>c")),
    ("<b>Four</b>", Parts("", "<b>Four</b>"), Parts("<b>Four</b>", "")),
    (" \n", Parts("", " \n"), Parts("", "")),
    ("", Parts("", ""), Parts("", "")),
]
ANALYSIS = "<|channel|>analysis<|message|>"
NEXT, FINAL = "<|end|><|start|>assistant", "<|channel|>final<|message|>"
ADD = "commentary to=functions.add <|constrain|>json<|message|>"
CHANNELS = [
    (f"{ANALYSIS}Two.{NEXT}{FINAL}Four.<|return|>", Parts("Two.", "Four.")),
    (f"{ANALYSIS}Two.{NEXT}{FINAL}Fo", Parts("Two.", "Fo")),
    (f"{ANALYSIS}Two <|e", Parts("Two <|e", "")),
    (f"{ANALYSIS}Two.{NEXT}", Parts("Two.", "")),
    (f"{ANALYSIS}Two.{NEXT}<|channel|>fin", Parts("Two.", "")),
    (f"{ANALYSIS}Two.{FINAL}Four.", Parts("Two.", "Four.")),
    (f"{ANALYSIS}Two.<|end|>\n<|start|>assistant{FINAL}Four.\n", Parts("Two.", "Four.\n")),
    (f"{ANALYSIS}One.{NEXT}{ANALYSIS}Two.{NEXT}{FINAL}Four.", Parts("One.\nTwo.", "Four.")),
    (f"{FINAL}Four.", Parts("", "Four.")),
    (f'<|channel|>{ADD}{{"a": 1}}<|call|>', Parts("", f'{CALL}add<|message|>{{"a": 1}}')),
    (f'{ANALYSIS}Two.{NEXT}<|channel|>{ADD}{{"a', Parts("Two.", f'{CALL}add<|message|>{{"a')),
    (
        " to=functions.add<|channel|>commentary json<|message|>{}",
        Parts("", f"{CALL}add<|message|>{{}}"),
    ),
    (
        f"<|channel|>commentary<|message|>I add.{NEXT}<|channel|>{ADD}{{}}",
        Parts("", f"I add.\n{CALL}add<|message|>{{}}"),
    ),
    ("<|channel|>analysis to=python code<|message|>1 + 1<|call|>", Parts("1 + 1", "")),
    ("<|channel|>final It is 4.", Parts("", "<|channel|>final It is 4.")),
    ("Four.", Parts("", "Four.")),
    ("to=me", Parts("", "to=me")),
    ("t", Parts("", "t")),
    ("<|message|>Four.", Parts("", "<|message|>Four.")),
    ("<|end|><|end|>", Parts("", "")),
    ("", Parts("", "")),
]
READERS = [(partial(TaggedText, False), text, parts) for text, parts, _ in TAGGED]
READERS += [(partial(TaggedText, True), text, parts) for text, _, parts in TAGGED]
READERS += [(ChannelText, text, parts) for text, parts in CHANNELS]


@pytest.mark.parametrize(("new_reader", "text", "parts"), READERS)
def test_both_parts_are_found(new_reader, text, parts):
    assert new_reader().add(text, True) == parts


@given(case=st.sampled_from(READERS), cuts=st.lists(st.integers(0, 120)))
def test_pieces_give_what_the_whole_gives(case, cuts):
    new_reader, text, parts = case
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    reader, given = new_reader(), NOTHING
    for place, (start, stop) in enumerate(pairwise(edges)):
        given += reader.add(text[start:stop], finished=place == len(edges) - 2)
    assert given == parts


@given(
    new_reader=st.sampled_from(
        [partial(TaggedText, False), partial(TaggedText, True), ChannelText]
    ),
    pieces=st.lists(
        st.sampled_from([*MARKS, OPEN, CLOSE, "analysis", " to=functions.add", "a", " "])
    ),
)
def test_any_text_is_told_apart_alike_in_pieces(new_reader, pieces):
    reader = new_reader()
    given = sum((reader.add(letter, False) for letter in "".join(pieces)), start=NOTHING)
    assert given + reader.add("", True) == new_reader().add("".join(pieces), True)


@pytest.mark.parametrize(
    ("new_reader", "begin"),
    [
        (partial(TaggedText, True), ""),
        (partial(TaggedText, True), "</think>"),
        (partial(TaggedText, False), "Four"),
        (ChannelText, ANALYSIS),
        (ChannelText, FINAL),
        (ChannelText, f"<|channel|>{ADD}"),
    ],
)
def test_what_was_given_is_not_kept(new_reader, begin):
    reader = new_reader()
    reader.add(begin, False)
    for _ in range(300):
        reader.add("more <", False)
        assert all(len(kept) < 9 for kept in vars(reader).values() if isinstance(kept, str))


def test_nothing_is_held_back_for_long():
    tagged = TaggedText(False)
    assert tagged.add("<think>Two", False) == Parts("Two", "")
    assert tagged.add(" and <", False) == Parts(" and", "")
    assert tagged.add("two</think>", False) == Parts(" <two", "")
    assert tagged.add("Four", False) == Parts("", "Four")
    channels = ChannelText()
    assert channels.add(f"{ANALYSIS}Two", False) == Parts("Two", "")
    assert channels.add(f".{NEXT}<|channel|>final", False) == Parts(".", "")
    assert channels.add("<|message|>Four", False) == Parts("", "Four")


@pytest.mark.parametrize(
    ("way", "prompt", "parts"),
    [
        ("qwen3", "assistant\n", Parts("", "a</think>b")),
        ("qwen3", "assistant\n<think>\n", Parts("a", "b")),
        ("glm45", "<think>", Parts("a", "b")),
        ("glm45", "<think></think>\n", Parts("", "a</think>b")),
        ("deepseek_r1", "assistant", Parts("a", "b")),
        ("deepseek_r1", "</think>\n\n", Parts("", "a</think>b")),
        ("openai_gptoss", "<think>", Parts("", "a</think>b")),
    ],
)
def test_the_end_of_the_prompt_says_where_a_text_begins(way, prompt, parts):
    reader = reader_for(way, Letters(), Letters().encode_words(prompt))
    assert reader.add("a</think>b", True) == parts


def test_templates_say_how_a_model_reasons():
    assert template_way("{{ content.split('</think>')[-1] }}") == "qwen3"
    assert template_way("<|start|>assistant<|channel|>analysis</think>") == "openai_gptoss"
    assert template_way("{{ content }}") is None


def test_special_tokens_are_hidden():
    assert hides(Letters(special="<think>"), ["</think>", "<think>"])
    assert not hides(Letters(), ["</think>", "<think>"])
    assert not hides(Letters(), [])


class Letters:
    """A token for each letter; one text may be a special token."""

    def __init__(self, special: str = ""):
        self.special = special

    def encode_words(self, text: str) -> list[int]:
        return [0] if text == self.special else [ord(letter) for letter in text]

    def decode(self, token_ids: list[int]) -> str:
        return "".join(chr(token) for token in token_ids if token)

    def decode_all(self, token_ids: list[int]) -> str:
        return "".join(chr(token) if token else self.special for token in token_ids)
