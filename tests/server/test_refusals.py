"""Bad requests get a status and one sentence; the server goes on."""

from __future__ import annotations

import json

import httpx
import openai
import pytest

from lm_offload.cli import declare, serve
from lm_offload.engine.open_run import OpenRun
from lm_offload.errors import CheckpointError, ConfigError, StorageError
from lm_offload.server.body_limit import MAX_BODY_BYTES
from lm_offload.server.listener import open_socket
from tests.server.conftest import CONTEXT_LEN, MAX_RUNNING, MAX_WAITING, served

ASKED = {"model": "demo", "prompt": "x", "max_tokens": 2}
TOOL = {"type": "function", "function": {"name": "add"}}
BAD_TOOL = {"type": "function", "function": {"name": "add", "parameters": {"not": {}}}}
DEEP = json.loads('{"items": ' * 900 + "{}" + "}" * 900)
DEEP_TOOL = {"type": "function", "function": {"name": "add", "parameters": DEEP}}
CALLED = {"id": "1", "type": "function", "function": {"name": "add", "arguments": "{"}}
LONG_CALL = {"type": "function", "function": {"name": "a" * 5000, "arguments": "{" * 5000}}
FORMAT = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "text"}}}
CHAT = {"model": "demo", "messages": [{"role": "user", "content": "x"}], "max_tokens": 2}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"temperature": "hot"}, "temperature is 'hot'"),
        ({"temperature": -1}, "temperature is -1.0; allowed is 0"),
        ({"tools_of_trade": 1}, "tools_of_trade was given, which has no effect"),
        ({"echo": True}, "echo is True"),
        ({"stream_options": {"include_obfuscation": True}}, "include_obfuscation is True"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ""}, "no tokens"),
        ({"prompt": [1, "x"]}, "prompt"),
        ({"prompt": [[1], [99999999]]}, "token id outside"),
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"max_tokens": CONTEXT_LEN}, f"reserved for {CONTEXT_LEN} tokens"),
        ({"prompt": "x " * CONTEXT_LEN}, f"reserved for {CONTEXT_LEN} tokens"),
        ({"logprobs": 21}, "logprobs is 21"),
        ({"n": 0}, "n is 0"),
        ({"stop": [""]}, "stop is"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_one_sentence_says_what_is_allowed(http, changes, words, stream):
    found = http.post("/v1/completions", json={**ASKED, "stream": stream, **changes})
    assert found.status_code == 400, found.text
    error = found.json()["error"]
    assert words in error["message"]
    assert error["type"] == "invalid_request_error"
    assert http.post("/v1/completions", json=ASKED).status_code == 200


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"messages": []}, "messages is []"),
        ({"messages": [{"content": "x"}]}, "role is missing"),
        ({"tools": [{"type": "function"}]}, "tools.0.function is missing"),
        ({"tools": [{"type": "web_search"}]}, "tools.0.type is 'web_search'"),
        (
            {"tools": [TOOL], "tool_choice": {**TOOL, "function": {"name": "sub"}}},
            "'sub' and tools",
        ),
        ({"tool_choice": "required"}, "tool_choice is 'required' and tools has no such function"),
        ({"tools": [TOOL], "tool_choice": "required", "guided_regex": "a"}, "held to one of them"),
        ({"tools": [BAD_TOOL], "tool_choice": "required"}, "Unimplemented keys"),
        ({"tools": [DEEP_TOOL], "tool_choice": "required"}, "'add' in tools are nested too"),
        ({"tools": [{**TOOL, "function": {"name": ""}}]}, "tools.0.function.name is ''"),
        ({"messages": [{"role": "assistant", "tool_calls": [CALLED]}]}, "has the arguments '{'"),
        ({"response_format": {"type": "xml"}}, "response_format is {'type': 'xml'}"),
        ({"response_format": {"type": "json_schema"}}, "json_schema is missing"),
        ({"top_logprobs": 2}, "set logprobs to true"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "content.0.type is 'image_url'",
        ),
        ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content is 5: Input"),
    ],
)
def test_what_chat_cannot_do_is_said(http, changes, words):
    body = {"model": "demo", "messages": [{"role": "user", "content": "x"}], **changes}
    found = http.post("/v1/chat/completions", json=body)
    assert found.status_code == 400
    assert words in found.json()["error"]["message"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"structured_outputs": {"choice": []}}, "choice is ()"),
        ({"structured_outputs": {}}, "has none of its kinds"),
        ({"structured_outputs": {"structural_tag": "a"}}, "structured_outputs.structural_tag was"),
        ({"structured_outputs": {"regex": "("}}, "The regex of structured_outputs cannot"),
        ({"structured_outputs": {"regex": "a"}, "guided_choice": ["b"]}, "held to one of them"),
        ({"guided_json": {"not": {}}}, 'Unimplemented keys: ["not"]'),
        ({"response_format": FORMAT}, "Invalid type: text"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("asked", [("/v1/completions", ASKED), ("/v1/chat/completions", CHAT)])
def test_forms_that_no_text_can_have_are_refused_before_anything_runs(
    http, asked, changes, words, stream
):
    path, body = asked
    found = http.post(path, json={**body, "stream": stream, **changes})
    assert found.status_code == 400, found.text
    assert words in found.json()["error"]["message"]


@pytest.mark.parametrize(
    "changes",
    [
        {"n": 10**4000},
        {"guided_regex": "(" * 5000},
        {"structured_outputs": {"choice": [[1] * 5000]}},
        {"messages": [{"role": "assistant", "tool_calls": [LONG_CALL]}]},
        {"tool_choice": "x" * 5000},
    ],
)
def test_long_values_are_not_sent_back_whole(http, changes):
    found = http.post("/v1/chat/completions", json={**CHAT, **changes})
    assert found.status_code == 400, found.text
    assert len(found.json()["error"]["message"]) < 500


def test_the_field_that_is_wrong_is_named(http):
    body = {**ASKED, "temperature": "hot", "seed": []}
    error = http.post("/v1/completions", json=body).json()["error"]
    assert error["param"] == "seed"
    headers = {"Content-Type": "application/json"}
    error = http.post("/v1/completions", content=b'{"model": x}', headers=headers).json()["error"]
    assert error["param"] is None
    assert "The body is no JSON" in error["message"]


def test_half_a_character_in_a_name_is_escaped_in_the_answer(http):
    body = json.dumps({**ASKED, "structured_outputs": {"\ud800": "a"}})
    found = http.post("/v1/completions", content=body, headers={"Content-Type": "application/json"})
    assert found.status_code == 400
    assert r"structured_outputs.\ud800 was given" in found.json()["error"]["message"]


def test_no_json_and_no_route_are_errors_too(http):
    assert http.post("/v1/completions", content=b"{").json()["error"]["type"]
    missing = http.get("/v2")
    assert missing.status_code == 404
    assert "GET /v2" in missing.json()["error"]["message"]


def test_another_model_and_another_key_are_refused(client, address):
    with pytest.raises(openai.NotFoundError, match="this server has 'demo'"):
        client.completions.create(**{**ASKED, "model": "gpt"})
    stranger = openai.OpenAI(base_url=f"{address}/v1", api_key="guess", max_retries=0)
    with pytest.raises(openai.AuthenticationError, match="missing or wrong"):
        stranger.models.list()


def test_more_than_may_wait_are_refused(http):
    many = {**ASKED, "prompt": ["x"] * 8}
    long = {**many, "max_tokens": 250, "ignore_eos": True, "stream": True}
    with http.stream("POST", "/v1/completions", json=long) as under_way:
        assert under_way.status_code == 200
        found = http.post("/v1/completions", json=many)
    assert found.status_code == 429
    assert found.json()["error"]["code"] == "overloaded"


def test_more_than_may_ever_be_under_way_are_no_reason_to_wait(http):
    most = MAX_RUNNING + MAX_WAITING
    found = http.post("/v1/completions", json={**ASKED, "prompt": ["x"] * (most + 1)})
    assert found.status_code == 400
    assert f"{most} may be under way" in found.json()["error"]["message"]


@pytest.mark.parametrize("name", ["messages", "self", "conversation", "chat_template"])
def test_what_a_template_is_given_besides_ends_no_server(http, name):
    body = {**CHAT, "chat_template_kwargs": {name: "{% for i in [] %}{% endfor %}"}}
    found = http.post("/v1/chat/completions", json=body)
    assert found.status_code == 400, found.text
    assert http.post("/v1/chat/completions", json=CHAT).status_code == 200


def test_what_ends_the_run_is_told_to_those_that_were_joining(chatty, monkeypatch):
    def broken(run, prompt, params):
        raise CheckpointError("The tokenizer is gone.")

    with served(chatty, api_key=None) as (_, address):
        with monkeypatch.context() as patch:
            patch.setattr(OpenRun, "add", broken)
            found = httpx.post(f"{address}/v1/completions", json=ASKED, timeout=30)
        assert found.status_code == 500
        assert "tokenizer is gone" in found.json()["error"]["message"]
        assert httpx.post(f"{address}/v1/completions", json=ASKED, timeout=30).status_code == 200


def test_a_body_that_is_too_long_is_not_read(http):
    found = http.post("/v1/completions", json={**ASKED, "prompt": "x" * MAX_BODY_BYTES})
    assert found.status_code == 413
    assert "longer than 32 MiB" in found.json()["error"]["message"]


def test_json_that_is_not_called_so_is_refused_with_its_name(http):
    found = http.post("/v1/completions", content=json.dumps(ASKED))
    assert found.status_code == 400
    assert "Content-Type: application/json" in found.json()["error"]["message"]


def test_without_what_serving_needs_the_command_says_what_to_install(monkeypatch):
    monkeypatch.setattr(declare, "find_spec", lambda name: None if name == "uvicorn" else name)
    with pytest.raises(ConfigError, match=r"uvicorn cannot be imported.*lm-offload\[server\]"):
        serve.serve("model")


def test_an_address_in_use_is_one_sentence():
    with open_socket("127.0.0.1", 0) as taken, pytest.raises(ConfigError, match="another --port"):
        open_socket("127.0.0.1", taken.getsockname()[1])


@pytest.mark.parametrize("stream", [False, True])
def test_an_error_of_the_disk_ends_requests_and_not_the_server(chatty, monkeypatch, stream):
    with served(chatty, api_key=None) as (worker, address):
        client = openai.OpenAI(base_url=f"{address}/v1", api_key="any", max_retries=0)
        assert client.completions.create(**ASKED).choices
        engine = worker.llm._engine
        step, count = engine.step, iter(range(100))

        def fail_later():
            if next(count) == 2:
                raise StorageError("The disk went away; plug it in.")
            return step()

        monkeypatch.setattr(engine, "step", fail_later)
        with pytest.raises(openai.APIError, match="went away"):
            list(client.completions.create(**{**ASKED, "max_tokens": 9}, stream=stream))
        assert client.completions.create(**ASKED).choices
