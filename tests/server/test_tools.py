"""OpenAI's own client calls tools and asks for forms of text; the template knows of tools."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from openai import OpenAI

from lm_offload import LLM, SamplingParams
from tests.cli.conftest import demo
from tests.server.conftest import KEY, served

__all__ = ["demo"]
TEMPLATE = (
    "{% for t in tools or [] %}[{{ t.function.name }}]{% endfor %}{% for m in messages %}"
    "{{ m.role }}: {{ m.content }}{% for c in m.tool_calls or [] %}"
    "<{{ c.function.name }} a={{ c.function.arguments.a }}>{% endfor %}. {% endfor %}: "
)
PARAMETERS = {
    "type": "object",
    "properties": {"a": {"$ref": "#/$defs/small"}, "b": {"enum": ["x", "y"]}},
    "required": ["a", "b"],
    "additionalProperties": False,
    "$defs": {"small": {"type": "integer", "minimum": 0, "maximum": 99}},
}
FUNCTION = {"name": "add", "description": "Adds.", "parameters": PARAMETERS}
TOOLS = [
    {"type": "function", "function": FUNCTION},
    {"type": "function", "function": {"name": "stop"}},
]
NAMED = {"type": "function", "function": {"name": "add"}}
MESSAGES = [{"role": "user", "content": "Add."}]
ASKED = {"model": "demo", "messages": MESSAGES, "max_tokens": 200, "seed": 1}
CALL = '{"name": "add", "arguments": {"a": 7}}'
SCHEMA = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}, "n": {"enum": [1, 22]}},
    "required": ["ok", "n"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "it", "schema": SCHEMA, "strict": True}}


@pytest.fixture(scope="module")
def folder(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = Path(shutil.copytree(demo, tmp_path_factory.mktemp("tools") / "model"))
    declared = json.loads((made / "tokenizer_config.json").read_text())
    declared["chat_template"] = TEMPLATE
    (made / "tokenizer_config.json").write_text(json.dumps(declared))
    return made


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[OpenAI]:
    with (
        served(folder) as (_, address),
        OpenAI(base_url=f"{address}/v1", api_key=KEY, max_retries=0, timeout=60) as client,
    ):
        yield client


def check_add(call) -> None:
    assert call.type == "function"
    assert call.function.name == "add"
    arguments = json.loads(call.function.arguments)
    assert arguments.keys() == {"a", "b"}
    assert arguments["a"] in range(100)
    assert arguments["b"] in ("x", "y")


@pytest.mark.parametrize("temperature", [0, 1.5])
def test_a_tool_that_must_be_called_is_called(client, temperature):
    asked = {**ASKED, "tools": TOOLS, "temperature": temperature}
    answer = client.chat.completions.create(**asked, tool_choice=NAMED, n=2)
    for choice in answer.choices:
        assert choice.finish_reason == "tool_calls"
        assert choice.message.content is None
        (call,) = choice.message.tool_calls
        check_add(call)
    (choice,) = client.chat.completions.create(**asked, tool_choice="required").choices
    (call,) = choice.message.tool_calls
    assert call.function.name in ("add", "stop")
    assert call.function.name == "add" or call.function.arguments == "{}"


@pytest.mark.parametrize("tool_choice", [NAMED, "required"])
def test_a_stream_brings_the_call_whole(client, tool_choice):
    asked = {**ASKED, "tools": TOOLS[:1], "tool_choice": tool_choice}
    whole = client.chat.completions.create(**asked).choices[0].message.tool_calls[0]
    chunks = [chunk.choices[0] for chunk in client.chat.completions.create(**asked, stream=True)]
    assert not any(chunk.delta.content for chunk in chunks)
    (call,) = chunks[-1].delta.tool_calls
    assert call.index == 0
    assert call.function == type(call.function)(**whole.function.model_dump())
    assert chunks[-1].finish_reason == "tool_calls"
    assert chunks[0].delta.role == "assistant"


@pytest.mark.parametrize(
    "text",
    [
        f"Sure.\n<tool_call>\n{CALL}\n</tool_call>\n<tool_call>\n{CALL}\n</tool_call>",
        CALL.replace("arguments", "parameters"),
        f"[TOOL_CALLS][{CALL}]",
        "Sure. Nothing to add.",
    ],
)
def test_calls_are_found_in_what_models_write(client, text):
    """The demo model writes none of itself, so it is held to one."""
    form = {"structured_outputs": {"choice": [text]}}
    asked = {**ASKED, "tools": TOOLS, "extra_body": form}
    (choice,) = client.chat.completions.create(**asked).choices
    calls, number = choice.message.tool_calls or [], text.count('"name"')
    arguments = [json.loads(call.function.arguments) for call in calls]
    assert arguments == [{"a": 7}] * number
    content = text if not number else "Sure." if text.startswith("Sure") else None
    assert choice.message.content == content
    assert choice.finish_reason == ("tool_calls" if number else "stop")
    chunks = [it.choices[0] for it in client.chat.completions.create(**asked, stream=True)]
    assert "".join(chunk.delta.content or "" for chunk in chunks) == (content or "")
    assert len(chunks[-1].delta.tool_calls or []) == number
    assert chunks[-1].finish_reason == choice.finish_reason


def test_the_template_gets_tools_calls_and_their_results(client, folder):
    called = {"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"a": 7}'}}
    messages = [
        *MESSAGES,
        {"role": "assistant", "content": None, "tool_calls": [called]},
        {"role": "tool", "tool_call_id": "1", "content": "14"},
    ]
    rendered = "[add][stop]user: Add.. assistant: <add a=7>. tool: 14. : "
    asked = {"model": "demo", "messages": messages, "max_tokens": 12, "temperature": 0}
    answer = client.chat.completions.create(**asked, tools=TOOLS)
    with LLM(folder, threads=1) as llm:
        (expected,) = llm.generate(rendered, SamplingParams(max_tokens=12))
        (without,) = llm.generate(rendered.removeprefix("[add][stop]"))
    assert answer.choices[0].message.content == expected.text
    assert answer.usage.prompt_tokens == len(expected.prompt_token_ids)
    quiet = client.chat.completions.create(**asked, tools=TOOLS, tool_choice="none")
    assert quiet.usage.prompt_tokens == len(without.prompt_token_ids)


@pytest.mark.parametrize("stream", [False, True])
def test_a_response_format_is_kept_to(client, stream):
    found = client.chat.completions.create(**ASKED, response_format=FORMAT, stream=stream)
    if stream:
        text = "".join(chunk.choices[0].delta.content or "" for chunk in found)
    else:
        text = found.choices[0].message.content
    made = json.loads(text)
    assert made.keys() == {"ok", "n"}
    assert made["ok"] in (True, False)
    assert made["n"] in (1, 22)
    kind = {"type": "json_object"}
    (choice,) = client.chat.completions.create(**ASKED, response_format=kind).choices
    assert choice.finish_reason == "length" or isinstance(json.loads(choice.message.content), dict)
    client.chat.completions.create(**{**ASKED, "max_tokens": 2}, response_format={"type": "text"})


@pytest.mark.parametrize(
    "form",
    [
        {"structured_outputs": {"regex": "[a-f]{4}"}},
        {"guided_regex": "[a-f]{4}"},
        {"structured_outputs": {"json": {"type": "string", "pattern": "^[a-f]{2}$"}}},
        {"guided_json": '{"type": "string", "pattern": "^[a-f]{2}$"}'},
        {"structured_outputs": {"choice": ["abcd"]}},
        {"guided_choice": ["abcd"]},
        {"structured_outputs": {"grammar": 'root ::= ("ab" | "cd") ("ef")'}},
        {"guided_grammar": 'root ::= ("ab" | "cd") ("ef")'},
        {"response_format": {**FORMAT, "json_schema": {"name": "a", "schema": {"const": "ab"}}}},
    ],
)
def test_completions_are_held_to_forms_too(client, form):
    answer = client.completions.create(model="demo", prompt=["x", "y"], seed=1, extra_body=form)
    assert all(re.fullmatch(r'"?[a-f]{2,4}"?', choice.text) for choice in answer.choices)
    assert all(choice.finish_reason == "stop" for choice in answer.choices)
