"""Texts as tokens and back, and what else clients of vLLM's server ask for."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import openai
import pytest

from lm_offload.demo import demo_path
from lm_offload.engine.tokenizer import load_tokenizer
from lm_offload.errors import LMOffloadError
from tests.server.conftest import CONTEXT_LEN, served

MESSAGES = [{"role": "user", "content": "x = 1"}]


def test_tokens_are_those_of_the_model_and_come_back_as_the_text(http):
    expected = load_tokenizer(demo_path()).encode("def add(a):")
    found = http.post("/tokenize", json={"prompt": "def add(a):", "return_token_strs": True}).json()
    assert found["tokens"] == expected
    assert (found["count"], found["max_model_len"]) == (len(expected), CONTEXT_LEN)
    assert "".join(found["token_strs"]) == "def add(a):"
    back = http.post("/detokenize", json={"model": "demo", "tokens": expected}).json()
    assert back == {"prompt": "def add(a):"}


def test_a_conversation_has_the_tokens_that_its_answer_counts(http, client):
    asked = {"messages": MESSAGES, "add_generation_prompt": True}
    count = http.post("/tokenize", json=asked).json()["count"]
    answer = client.chat.completions.create(model="demo", messages=MESSAGES, max_tokens=1)
    assert count == answer.usage.prompt_tokens


def test_tokens_are_made_while_others_are_computed(http):
    long = {"model": "demo", "prompt": "x", "max_tokens": 200, "ignore_eos": True}
    with ThreadPoolExecutor(2) as pool:
        under_way = pool.submit(http.post, "/v1/completions", json=long)
        assert http.post("/tokenize", json={"prompt": "a b"}).status_code == 200
        assert under_way.result().status_code == 200


@pytest.mark.parametrize(
    ("route", "body", "words"),
    [
        ("/tokenize", {}, "give prompt or messages"),
        ("/tokenize", {"prompt": "a", "messages": MESSAGES}, "give prompt or messages"),
        ("/tokenize", {"prompt": "a", "special": 1}, "special was given"),
        (
            "/tokenize",
            {"messages": MESSAGES, "chat_template_kwargs": {"chat_template": "x"}},
            "own",
        ),
        ("/detokenize", {"tokens": [10**30]}, "tokens has an id"),
        ("/detokenize", {"tokens": [-1]}, "tokens has an id"),
        ("/detokenize", {"tokens": "a"}, "tokens is 'a'"),
    ],
)
def test_what_has_no_tokens_is_one_sentence(http, route, body, words):
    found = http.post(route, json=body)
    assert found.status_code == 400, found.text
    assert words in found.json()["error"]["message"]


def test_another_model_is_refused_here_too(http, client):
    assert http.post("/tokenize", json={"model": "gpt", "prompt": "a"}).status_code == 404
    with pytest.raises(openai.NotFoundError, match="this server has 'demo'"):
        client.models.retrieve("gpt")
    assert client.models.retrieve("demo").max_model_len == CONTEXT_LEN


def test_errands_of_a_server_that_is_closing_are_told_so(chatty):
    with served(chatty) as (worker, _):
        assert worker.ask(lambda: 7).result(timeout=30) == 7
        worker.close()
    with pytest.raises(LMOffloadError, match="closing"):
        worker.ask(lambda: 7).result(timeout=30)


def test_an_errand_that_fails_or_is_not_wanted_any_more_ends_nothing_else(chatty):
    begun, over = Event(), Event()

    def wait() -> bool:
        begun.set()
        return over.wait(timeout=30)

    with served(chatty) as (worker, _):
        held = worker.ask(wait)
        assert begun.wait(timeout=30)
        unwanted = worker.ask(lambda: 1)
        assert unwanted.cancel()
        broken = worker.ask(lambda: 1 / 0)
        over.set()
        assert held.result(timeout=30)
        with pytest.raises(ZeroDivisionError):
            broken.result(timeout=30)
        assert worker.ask(lambda: 7).result(timeout=30) == 7
        assert worker.is_open


@pytest.mark.parametrize(
    ("route", "asked"),
    [
        ("/v1/completions", {"prompt": "x", "max_tokens": 1}),
        ("/v1/chat/completions", {"messages": MESSAGES, "max_tokens": 1}),
        ("/v1/responses", {"input": "x", "max_output_tokens": 1}),
    ],
)
def test_a_request_may_leave_out_the_one_model_there_is(http, route, asked):
    assert http.post(route, json=asked).json()["model"] == "demo"
    refused = http.post(route, json={"model": "other", **asked})
    assert refused.status_code == 404
