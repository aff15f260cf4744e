"""Text in, text out: stop strings, pieces that come while generating, odd characters."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_offload import SamplingParams
from lm_offload.engine.text_stream import TextStream, cut_at_stop
from lm_offload.engine.tokenizer import load_tokenizer
from lm_offload.errors import RequestError
from tests.engine.harness import open_llm, smallest_budget
from tests.engine.tokenizer_file import write_tokenizer
from tests.toy import VOCAB_SIZE


@pytest.fixture(scope="module")
def folder(toy, tmp_path_factory):
    copy = tmp_path_factory.mktemp("text") / "model"
    return write_tokenizer(shutil.copytree(toy("llama"), copy))


@pytest.fixture(scope="module")
def llm(folder):
    with open_llm(folder) as llm:
        yield llm


@pytest.fixture(scope="module")
def tokenizer(folder):
    return load_tokenizer(folder)


IDS = st.lists(st.integers(0, VOCAB_SIZE - 1), max_size=30)
STOPS = st.lists(st.text("ABC ", min_size=1, max_size=3), max_size=3).map(tuple)


def feed(stream: TextStream, ids: list[int]) -> tuple[list[str], list[int]]:
    """The pieces of text, and the ids up to the one that completed a stop string."""
    pieces = []
    for count, token in enumerate(ids, 1):
        stopped = stream.add(token)
        pieces.append(stream.take(finished=stopped or count == len(ids)))
        if stopped:
            return pieces, ids[:count]
    return pieces, ids


@given(IDS)
def test_pieces_of_any_bytes_are_the_whole_text(tokenizer, ids):
    pieces, _ = feed(TextStream(tokenizer, ()), ids)
    assert "".join(pieces) == tokenizer.decode(ids)


@given(st.text("ABC À", max_size=20), STOPS)
def test_text_ends_before_the_first_stop_string(tokenizer, text, stop):
    pieces, used = feed(TextStream(tokenizer, stop), tokenizer.encode(text))
    wanted = cut_at_stop(tokenizer.decode(used), stop)
    assert "".join(pieces) == wanted
    assert text.startswith(wanted)
    assert any(word in text for word in stop) == (len(wanted) < len(text))
    assert all(word not in tokenizer.decode(used[:-1]) for word in stop)


def test_no_piece_shows_half_a_character(tokenizer):
    stream = TextStream(tokenizer, ())
    ids = tokenizer.encode("AÀB")
    assert len(ids) == 4
    pieces, _ = feed(stream, ids)
    assert pieces == ["A", "", "À", "B"]


def test_what_may_begin_a_stop_string_is_held_back(tokenizer):
    pieces, used = feed(TextStream(tokenizer, ("BAD",)), tokenizer.encode("ABABBADC"))
    assert "".join(pieces) == "ABAB"
    assert pieces[1:3] == ["", ""]
    assert len(used) == 7


@settings(max_examples=8)
@given(st.integers(0, 1000), st.booleans())
def test_a_stream_is_what_generate_gives(llm, seed, with_stop):
    temperature = 1.5 if seed % 2 else 0.0
    stop = ("A", "EE", " ") if with_stop else ()
    params = SamplingParams(max_tokens=12, temperature=temperature, seed=seed, stop=stop)
    prompt = f"HELLO {seed}"
    assert "".join(llm.stream(prompt, params)) == llm.generate(prompt, params)[0].text


def test_a_stop_string_ends_generation(llm):
    free = llm.generate("HELLO", SamplingParams(max_tokens=24, ignore_eos=True))[0]
    word = next(text for text in free.text[3:] if text.isascii())
    params = SamplingParams(max_tokens=24, ignore_eos=True, stop=(word,))
    (output,) = llm.generate("HELLO", params)
    assert output.text == free.text[: free.text.index(word)]
    assert (output.outputs[0].finish_reason, output.outputs[0].stop_reason) == ("stop", word)
    assert free.outputs[0].stop_reason is None
    ids = output.outputs[0].token_ids
    assert ids == free.outputs[0].token_ids[: len(ids)]
    assert llm.tokenizer.decode(ids).endswith(word)


def test_an_end_token_that_spells_text_is_not_in_the_text(llm, folder, tmp_path):
    """As where a tokenizer does not call it special; `stop_token_ids` are the same."""
    params = SamplingParams(max_tokens=24, ignore_eos=True)
    free = llm.generate("HELLO", params)[0].outputs[0].token_ids
    place = next(i for i, token in enumerate(free) if i and llm.tokenizer.decode([token]).isalpha())
    free = free[: free.index(free[place]) + 1]
    copy = shutil.copytree(folder, tmp_path / "model")
    (copy / "generation_config.json").write_text(json.dumps({"eos_token_id": free[-1]}))
    wanted = llm.tokenizer.decode(free[:-1])
    with open_llm(copy) as ending:
        ends = SamplingParams(max_tokens=24)
        stops = SamplingParams(max_tokens=24, ignore_eos=True, stop_token_ids=free[-1:])
        for one, reason in ((ends, None), (stops, free[-1])):
            (output,) = ending.generate("HELLO", one)[0].outputs
            assert (output.finish_reason, output.token_ids) == ("stop", free)
            assert output.stop_reason == reason
            assert output.text == "".join(ending.stream("HELLO", one)) == wanted
        cut = ending.generate("HELLO", replace(params, max_tokens=len(free)))[0]
        assert cut.text == llm.tokenizer.decode(free)  # it was not to end there


def test_stop_strings_of_one_request_do_not_touch_another(llm):
    free = SamplingParams(max_tokens=24, ignore_eos=True)
    wanted = [output.text for output in llm.generate(["HELLO", "WORLD"], free)]
    stops = SamplingParams(max_tokens=24, ignore_eos=True, stop=(wanted[0][5],))
    texts = [output.text for output in llm.generate(["HELLO", "WORLD"], [stops, free])]
    assert texts == [wanted[0][: wanted[0].index(wanted[0][5])], wanted[1]]


def test_text_and_ids_are_the_same_prompt(llm):
    params = SamplingParams(max_tokens=5)
    ids = llm.tokenizer.encode("HELLO")
    by_text, by_ids = llm.generate(["HELLO", ids], params)
    assert by_text.prompt == "HELLO"
    assert by_ids.prompt is None
    assert by_text.prompt_token_ids == by_ids.prompt_token_ids == ids
    assert by_text.outputs[0].token_ids == by_ids.outputs[0].token_ids


def test_an_empty_text_is_an_empty_prompt(llm):
    with pytest.raises(RequestError, match="Prompt 0 has no tokens"):
        llm.generate("", SamplingParams())


def test_a_model_without_a_chat_template_says_so(llm):
    with pytest.raises(RequestError, match="no chat template"):
        llm.chat([{"role": "user", "content": "HELLO"}])


def test_a_dropped_stream_does_not_disturb_the_next_call(folder):
    budget = smallest_budget(folder, [[5] * 5], 24)
    with open_llm(folder, budget) as llm:
        params = SamplingParams(max_tokens=24, ignore_eos=True)
        wanted = llm.generate("HELLO", params)[0].text
        stream = llm.stream("HELLO", params)
        first = [next(stream), next(stream)]
        assert wanted.startswith("".join(first))
        with pytest.raises(RequestError, match="unfinished"):
            llm.generate("HELLO", params)
        stream.close()
        assert llm.generate("HELLO", params)[0].text == wanted
