"""Where texts end and what they show: least lengths, stop strings that stay, special tokens."""

from __future__ import annotations

import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_offload import SamplingParams
from lm_offload.engine.request_text import RequestText
from lm_offload.engine.text_stream import TextStream
from lm_offload.engine.tokenizer import load_tokenizer
from tests.engine.harness import open_llm
from tests.engine.test_text import STOPS, feed
from tests.engine.tokenizer_file import write_tokenizer

END = 2  # of toy checkpoints, spelled </s>


@pytest.fixture(scope="module")
def llm(toy, tmp_path_factory):
    copy = tmp_path_factory.mktemp("text") / "model"
    with open_llm(write_tokenizer(shutil.copytree(toy("llama"), copy))) as llm:
        yield llm


@pytest.fixture(scope="module")
def tokenizer(llm):
    return load_tokenizer(llm.files.folder)


def end_of(text: str, stop: tuple[str, ...], known: int, included: bool) -> str:
    """The text up to the stop string that is complete first after `known` characters."""
    for end in range(known + 1, len(text) + 1):
        words = [word for word in stop if text[:end].endswith(word)]
        if words:
            return text[:end] if included else text[: end - max(map(len, words))]
    return text


@given(st.text("ABC À", max_size=20), STOPS, st.integers(0, 8), st.booleans())
def test_a_stop_string_ends_the_text_once_there_are_enough_tokens(
    tokenizer, text, stop, min_tokens, included
):
    ids = tokenizer.encode(text)
    pieces, used = feed(TextStream(tokenizer, stop, min_tokens, included), ids)
    known = len(tokenizer.decode(ids[:min_tokens]).rstrip("\N{REPLACEMENT CHARACTER}"))
    assert "".join(pieces) == end_of(text, stop, known, included)
    assert len(used) > min(min_tokens, len(ids) - 1)
    params = SamplingParams(
        stop=stop, max_tokens=99, min_tokens=min_tokens, include_stop_str_in_output=included
    )
    words = RequestText(lambda: tokenizer, params)
    assert words.text(used, ends_with_stop_token=False) == "".join(pieces)


@settings(max_examples=30)
@given(
    st.integers(0, 1000),
    st.sampled_from([(), ("A", "EE", " "), ("</s>", "B")]),
    st.integers(0, 12),
    st.booleans(),
    st.booleans(),
    st.lists(st.integers(3, 130), max_size=20),
)
def test_a_stream_is_what_generate_gives(
    llm, seed, stop, min_tokens, included, skipping, stop_token_ids
):
    params = SamplingParams(
        max_tokens=12,
        temperature=1.5,
        seed=seed,
        stop=stop,
        min_tokens=min_tokens,
        stop_token_ids=stop_token_ids,
        logit_bias={END: 3.0, 36: 2.0},
        include_stop_str_in_output=included,
        skip_special_tokens=skipping,
    )
    (output,) = llm.generate("HELLO", params)[0].outputs
    assert "".join(llm.stream("HELLO", params)) == output.text
    assert len(output.token_ids) >= min_tokens
    ended_by_token = {END, *stop_token_ids} & {*output.token_ids}
    assert not ended_by_token or output.token_ids.index(min(ended_by_token)) >= min_tokens


@pytest.mark.parametrize("skipping", [True, False])
@pytest.mark.parametrize("included", [True, False])
def test_a_stop_token_is_shown_where_that_is_wanted(llm, included, skipping):
    params = SamplingParams(
        max_tokens=9,
        min_tokens=3,
        logit_bias={END: 100.0, 36: 50.0},
        include_stop_str_in_output=included,
        skip_special_tokens=skipping,
    )
    (output,) = llm.generate("HELLO", params)[0].outputs
    assert output.token_ids == [36, 36, 36, END]
    assert output.text == "AAA" + "</s>" * (included and not skipping)
    assert output.finish_reason == "stop"


def test_a_stop_string_stays_where_that_is_wanted(llm):
    free = llm.generate("HELLO", SamplingParams(max_tokens=24, ignore_eos=True))[0].text
    word = next(free[at : at + 2] for at in range(3, 20) if free[at : at + 2].isascii())
    params = SamplingParams(max_tokens=24, ignore_eos=True, stop=word)
    (cut,) = llm.generate("HELLO", params)[0].outputs
    (whole,) = llm.generate("HELLO", params.clone(include_stop_str_in_output=True))[0].outputs
    assert whole.text == cut.text + word
    assert (whole.token_ids, whole.stop_reason) == (cut.token_ids, word)
    late = params.clone(min_tokens=len(cut.token_ids))
    (longer,) = llm.generate("HELLO", late)[0].outputs
    assert len(longer.token_ids) > len(cut.token_ids)
    assert longer.text.startswith(whole.text)
