"""Grammars over the demo model's tokenizer: masks, places in a text, what cannot be compiled."""

from __future__ import annotations

import json
import re
import sys

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from lm_offload.demo import demo_path
from lm_offload.errors import RequestError
from lm_offload.sampling import StructuredOutputs, grammars
from lm_offload.sampling.grammars import Grammars
from tests.engine.tokenizer_file import write_tokenizer
from tests.toy import VOCAB_SIZE

END, SIZE = 0, 4096


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(demo_path() / "tokenizer.json"))


@pytest.fixture(scope="module")
def made(tokenizer) -> Grammars:
    return Grammars(tokenizer.to_str(), SIZE, [END])


def allowed(guide, output, size: int = SIZE) -> set[int]:
    logits = torch.zeros(size)
    guide.apply(logits, output)
    return set(np.flatnonzero(logits.numpy() == 0).tolist())


@pytest.mark.parametrize("output", ["", "1", "12"])
def test_masks_are_those_of_the_definition(made, tokenizer, output):
    """A token may come where text and token begin a text of the regex; the end where it is one."""
    guide = made.guide(StructuredOutputs(regex="[0-9]{1,3}"))
    wanted = {
        token
        for token in range(SIZE)
        if re.fullmatch("[0-9]{1,3}", output + (tokenizer.decode([token]) or "?"))
    }
    wanted |= {END} if output else set()
    assert allowed(guide, tokenizer.encode(output).ids) == wanted


@pytest.mark.parametrize("text", ['say "so"\n', "it's \\d", "\U0001f600 x", "été", "{a} | b"])
def test_a_choice_is_taken_letter_by_letter(made, tokenizer, text):
    guide, ids = made.guide(StructuredOutputs(choice=["other", text])), tokenizer.encode(text).ids
    for place, token in enumerate(ids):
        assert token in allowed(guide, ids[:place])
        assert not guide.is_complete(ids[:place])
    assert guide.is_complete(ids)
    assert allowed(guide, ids) == {END}


def test_a_text_that_may_go_on_is_not_complete(made, tokenizer):
    guide, ids = made.guide(StructuredOutputs(regex="[ab]+")), tokenizer.encode("ab").ids
    assert not guide.is_complete(ids)
    assert {END, *tokenizer.encode("a").ids} <= allowed(guide, ids)


def test_outputs_are_followed_in_any_order(made, tokenizer):
    """As drafts are: back to an earlier place, another way, after an end, and in a copy."""
    wanted = StructuredOutputs(regex="(ab|cd)*")
    outputs = [tokenizer.encode(text).ids for text in ("", "abab", "abcd", "ab", "cdcdab", "a")]
    outputs += [[*outputs[3], END], [*outputs[3], END, END], outputs[2]]
    guide = made.guide(wanted)
    for output in outputs:
        before = guide.copy()
        fresh = allowed(made.guide(wanted), output)
        assert allowed(guide, output) == allowed(before, output) == fresh
        assert guide.error is None


def test_spaces_in_json_end_some_time(made, tokenizer):
    space = tokenizer.encode(" ").ids
    guide = made.guide(StructuredOutputs(json_object=True))
    begun = tokenizer.encode("{").ids
    assert set(space) <= allowed(guide, begun)
    assert not set(space) & allowed(guide, begun + 32 * space)
    tight = made.guide(StructuredOutputs(json_object=True, disable_any_whitespace=True))
    assert not set(space) & allowed(tight, begun)
    own = made.guide(StructuredOutputs(json_object=True, whitespace_pattern=" "))
    assert not set(space) & allowed(own, begun + space)


@pytest.mark.parametrize("text", ['root ::= "a" | "b"', 'start: "a" | "b"'])
def test_both_ways_to_write_a_grammar(made, tokenizer, text):
    guide = made.guide(StructuredOutputs(grammar=text))
    letters = {*tokenizer.encode("a").ids, *tokenizer.encode("b").ids}
    assert allowed(guide, []) == letters


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"regex": "a("}, "The regex of structured_outputs cannot be compiled"),
        ({"json": {"not": {"type": "string"}}}, 'Unimplemented keys: ["not"]'),
        ({"json": {"type": "text"}}, "Invalid type: text"),
        ({"json": {"type": "string", "minLength": 5, "maxLength": 2}}, "Unsatisfiable"),
        ({"json": {"$ref": "#/nowhere"}}, "'/nowhere' does not exist"),
        ({"json": '{"a":' * 400 + "{}" + "}" * 400}, "recursion limit exceeded"),
        ({"regex": "a{1000000}"}, "it is too large"),
        ({"regex": "\ud800"}, "surrogates not allowed"),
        ({"grammar": "start: missing"}, 'unknown name: "missing"'),
        ({"grammar": 'root ::= "a" | | ::='}, "The grammar of structured_outputs"),
        ({"json_object": True, "whitespace_pattern": "a("}, "The json_object of"),
    ],
)
def test_what_cannot_be_compiled_is_one_sentence(made, values, words):
    with pytest.raises(RequestError) as refused:
        made.guide(StructuredOutputs(**values))
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_each_is_compiled_once_and_few_are_kept(tokenizer, monkeypatch):
    compiled = []
    compile_one = Grammars._compile
    monkeypatch.setattr(grammars, "MOST_KEPT", 2)
    monkeypatch.setattr(
        Grammars,
        "_compile",
        lambda self, it, _: [compiled.append(it.regex), compile_one(self, it, _)][1],
    )
    made = Grammars(tokenizer.to_str(), SIZE, [END])
    for text in ("a", "b", "a", "c", "a", "b"):
        made.guide(StructuredOutputs(regex=text))
    assert compiled == ["a", "b", "c", "b"]


def test_a_matcher_whose_limits_are_reached_is_made_anew(made):
    wanted = StructuredOutputs(regex="x[0-9]")
    first = allowed(made.guide(wanted), [])
    made._compiled[wanted, False].consume_token(END)
    assert made._compiled[wanted, False].is_error()
    assert allowed(made.guide(wanted), []) == first != set(range(SIZE))


def test_thousands_of_choices(made, tokenizer):
    guide = made.guide(StructuredOutputs(choice=[str(number) for number in range(5000)]))
    ids = [token for letter in "4999" for token in tokenizer.encode(letter).ids]
    assert all(ids[place] in allowed(guide, ids[:place]) for place in range(4))
    assert allowed(guide, ids) == {END}


def test_letters_that_no_token_spells(tmp_path):
    """The toys' tokenizer has no small letters: told before the text, or where they come."""
    write_tokenizer(tmp_path)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    made = Grammars(tokenizer.to_str(), VOCAB_SIZE, [2])
    with pytest.raises(RequestError, match="no token of this model can begin it"):
        made.guide(StructuredOutputs(regex="abc"))
    guide = made.guide(StructuredOutputs(regex="Abc"))
    begun = tokenizer.encode("A").ids
    assert allowed(guide, [], VOCAB_SIZE) == set(begun)
    assert len(allowed(guide, begun, VOCAB_SIZE)) == VOCAB_SIZE
    assert "After 1 tokens the text cannot go on" in guide.error
    assert "(no token of this model fits)" in guide.error
    assert not guide.is_complete(begun)


def test_without_the_library_the_sentence_says_what_to_install(tokenizer, monkeypatch):
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(RequestError, match=r"pip install 'lm-offload\[structured\]'"):
        Grammars(tokenizer.to_str(), SIZE, [END])


def test_what_no_end_token_ends_is_refused(tokenizer):
    with pytest.raises(RequestError, match="no end token"):
        Grammars(tokenizer.to_str(), SIZE, [])
    with pytest.raises(RequestError, match="does not read the tokenizer"):
        Grammars(json.dumps({"version": "1.0"}), SIZE, [END])
