"""OpenAI's newer interface over the same conversations: items in, items out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from openai.types.responses import ResponseInputItemParam
from pydantic import TypeAdapter, ValidationError

from lm_offload.errors import LMOffloadError
from lm_offload.server.response_body import ResponseBody
from lm_offload.server.response_items import messages_of
from tests.server.stand_in import StandIn, client_of, tokenizer_with

TEMPLATE = (
    "{% for t in tools or [] %}[{{ t.function.name }}]{% endfor %}{% for m in messages %}"
    "{{ m.role }}: {{ m.reasoning_content }}|{{ m.content }}{% for c in m.tool_calls or [] %}"
    "<{{ c.function.name }} {{ c.function.arguments.a }}>{% endfor %};{% endfor %}"
    "{{ reasoning_effort }}{% if false %}</think>{% endif %}"
)
TOOL = {"type": "function", "name": "add", "parameters": {"type": "object"}}
CALL = '<tool_call>{"name": "add", "arguments": {"a": 7}}</tool_call>'
THOUGHT = "<think>Two and two.</think>"
ASKED = {"model": "m", "input": "Hi"}
EARLIER = [
    {"role": "developer", "content": "Briefly."},
    {"role": "user", "content": [{"type": "input_text", "text": "Add "}, TEXT := {
        "type": "input_text", "text": "7."}]},
    {"type": "reasoning", "id": "rs_1", "summary": [],
     "content": [{"type": "reasoning_text", "text": "I add."}]},
    {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
     "content": [{"type": "output_text", "text": "So:", "annotations": []}]},
    {"type": "function_call", "call_id": "1", "name": "add", "arguments": '{"a": 7}'},
    {"type": "function_call", "call_id": "2", "name": "add", "arguments": '{"a": 8}'},
    {"type": "function_call_output", "call_id": "1", "output": "14"},
    {"type": "function_call_output", "call_id": "2", "output": [TEXT]},
]  # fmt: skip


@pytest.fixture
def worker(tmp_path: Path):
    return lambda text: StandIn(tokenizer_with(tmp_path, TEMPLATE), text)


def whole(worker: StandIn, **more) -> dict:
    answer = client_of(worker).post("/v1/responses", json={**ASKED, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


def events_of(worker: StandIn, **more) -> list[dict]:
    answer = client_of(worker).post("/v1/responses", json={**ASKED, "stream": True, **more})
    blocks = [block.splitlines() for block in answer.text.split("\n\n") if block]
    events = [json.loads(data.removeprefix("data: ")) for _, data in blocks]
    assert [name.removeprefix("event: ") for name, _ in blocks] == [it["type"] for it in events]
    assert [event["sequence_number"] for event in events] == [*range(len(events))]
    return events


def without_ids(value):
    """What two answers of the same text have in common."""
    if isinstance(value, dict):
        return {
            key: without_ids(one)
            for key, one in value.items()
            if key not in ("id", "item_id", "call_id", "created_at")
        }
    return [without_ids(one) for one in value] if isinstance(value, list) else value


def test_an_answer_is_items(worker):
    answer = whole(worker(f"{THOUGHT}Sum:\n{CALL}"), tools=[TOOL])
    reasoning, message, call = answer["output"]
    assert reasoning["content"] == [{"type": "reasoning_text", "text": "Two and two."}]
    assert message["content"][0]["text"] == "Sum:"
    assert (call["type"], call["name"], call["arguments"]) == ("function_call", "add", '{"a": 7}')
    assert len({item["id"] for item in answer["output"]}) == 3
    assert answer["status"] == "completed"
    usage = answer["usage"]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert 0 < usage["output_tokens_details"]["reasoning_tokens"] < usage["output_tokens"]
    (only,) = whole(worker(CALL), tools=[TOOL])["output"]
    assert only["type"] == "function_call"
    (empty,) = whole(worker(""))["output"]
    assert empty["content"][0]["text"] == ""


@pytest.mark.parametrize("step", [1, 3, 1000])
@pytest.mark.parametrize(
    "text", ["Four.", f"{THOUGHT}Four.", f"{THOUGHT}Sum:\n{CALL}", f"{CALL}\n{CALL}", ""]
)
def test_a_stream_grows_to_the_whole(worker, text, step):
    asked = worker(text)
    asked.step = step
    events = events_of(asked, tools=[TOOL])
    assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
    assert events[0]["response"]["output"] == []
    assert events[-1]["type"] == "response.completed"
    response = events[-1]["response"]
    expected = whole(asked, tools=[TOOL])
    assert without_ids(response) == without_ids(expected)
    for place, item in enumerate(response["output"]):
        of_item = [event for event in events if event.get("output_index") == place]
        assert of_item[0]["type"] == "response.output_item.added"
        assert of_item[-1] == {**of_item[-1], "type": "response.output_item.done", "item": item}
        said = item.get("arguments") or item["content"][0]["text"]
        assert "".join(event.get("delta", "") for event in of_item) == said
        assert {event.get("item_id", item["id"]) for event in of_item} == {item["id"]}
        assert of_item[0]["item"]["id"] == item["id"]


def test_an_answer_that_was_cut_off_says_so(worker):
    cut = worker("Two and")
    cut.finish_reason = "length"
    answer = whole(cut)
    assert answer["status"] == answer["output"][0]["status"] == "incomplete"
    assert answer["incomplete_details"] == {"reason": "max_output_tokens"}
    assert events_of(cut)[-1]["type"] == "response.incomplete"


def test_an_error_ends_a_stream_with_what_there_is(worker):
    asked = worker("Two and two")
    asked.error = LMOffloadError("The disk went away.")
    events = events_of(asked)
    assert events[-1]["type"] == "response.failed"
    error = events[-1]["response"]["error"]
    assert error == {"code": "server_error", "message": "The disk went away."}


def test_an_earlier_answer_is_one_message(worker):
    for item in EARLIER:
        TypeAdapter(ResponseInputItemParam).validate_python(item)
    asked = worker("Four.")
    whole(asked, input=EARLIER, instructions="Add.", tools=[TOOL], reasoning={"effort": "low"})
    assert asked.prompts == [
        "[add]system: |Add.\n\nBriefly.;user: |Add 7.;assistant: I add.|So:<add 7><add 8>;"
        "tool: |14;tool: |7.;low"
    ]


def test_what_was_answered_can_be_sent_back(worker):
    asked = worker(f"{THOUGHT}Sum:\n{CALL}")
    output = whole(asked, tools=[TOOL])["output"]
    result = {"type": "function_call_output", "call_id": output[-1]["call_id"], "output": "14"}
    whole(asked, input=[{"role": "user", "content": "Hi"}, *output, result], tools=[TOOL])
    assert asked.prompts[-1].endswith("assistant: Two and two.|Sum:<add 7>;tool: |14;")


@pytest.mark.parametrize(
    ("items", "roles"),
    [
        ([("reasoning", "a"), ("assistant", "b")], ["assistant"]),
        ([("assistant", "a"), ("assistant", "b")], ["assistant", "assistant"]),
        ([("assistant", "a"), ("reasoning", "b")], ["assistant", "assistant"]),
        ([("system", "a"), ("user", "b"), ("system", "c")], ["system", "user", "system"]),
    ],
)
def test_parts_of_an_answer_join_in_their_order_only(items, roles):
    given = [
        {"type": "reasoning", "summary": text} if role == "reasoning" else {
            "role": role, "content": text}
        for role, text in items
    ]  # fmt: skip
    body = ResponseBody.model_validate({**ASKED, "input": given})
    assert [message["role"] for message in messages_of(None, body.input)] == roles


def test_settings_take_effect(worker):
    asked = worker("{}")
    schema = {"type": "object", "properties": {}}
    text = {"format": {"type": "json_schema", "name": "it", "schema": schema, "strict": True}}
    answer = whole(asked, text=text, temperature=0.5, max_output_tokens=7, seed=3, top_p=0.9)
    (params,) = asked.params
    assert (params.temperature, params.max_tokens, params.seed, params.top_p) == (0.5, 7, 3, 0.9)
    assert json.loads(params.structured_outputs.json) == schema
    assert answer["text"]["format"]["name"] == "it"
    assert (answer["max_output_tokens"], answer["temperature"]) == (7, 0.5)
    whole(asked, tools=[TOOL], tool_choice={"type": "function", "name": "add"})
    assert "add" in str(asked.params[-1].structured_outputs.json)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"input": []}, "input is []"),
        ({"input": [{"type": "computer_call"}]}, "Items may be a message"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input_image"),
        ({"previous_response_id": "resp_1"}, "send the items of the conversation in input"),
        ({"background": True}, "background is True"),
        ({"conversation": "c"}, "conversation is 'c'"),
        ({"truncation": "auto"}, "truncation is 'auto'"),
        ({"tools": [{"type": "web_search"}]}, "tools.0.type is 'web_search'"),
        ({"tool_choice": "required"}, "give it in tools"),
        ({"n": 2}, "n is 2"),
        ({"text": {"verbosity": "low"}}, "text.verbosity is 'low'"),
        ({"max_output_tokens": 0}, "max_tokens is 0"),
        ({"messages": []}, "messages was given, which has no effect here"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(worker, changes, words):
    answer = client_of(worker("x")).post("/v1/responses", json={**ASKED, **changes})
    assert answer.status_code == 400, answer.text
    message = answer.json()["error"]["message"]
    assert words in message
    assert "\n" not in message


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ('"metadata": {"a": [NaN]}', "metadata has a number that is none"),
        ('"metadata": {"a": "\\ud800"}', "metadata has a number that is none, half of a char"),
        ('"tools": [{"type": "function", "name": "a", "description": "\\ud800"}]', "tools has"),
        (
            '"tools": [{"type": "function", "name": "a", "parameters": {"x": Infinity}}]',
            "tools has",
        ),
        ('"tools": [{"type": "function", "name": ""}]', "tools.0.name is ''"),
    ],
)
def test_what_an_answer_cannot_repeat_is_refused(worker, stream, given, words):
    body = f'{{"model": "m", "input": "Hi", "stream": {str(stream).lower()}, {given}}}'
    headers = {"Content-Type": "application/json"}
    answer = client_of(worker("Four.")).post("/v1/responses", content=body, headers=headers)
    assert answer.status_code == 400, answer.text
    assert words in answer.json()["error"]["message"]


def test_openais_client_reads_it(client):
    asked = {"model": "demo", "input": "def add(", "temperature": 0, "max_output_tokens": 16}
    chat = client.chat.completions.create(
        model="demo",
        messages=[{"role": "user", "content": "def add("}],
        temperature=0,
        max_tokens=16,
    )
    answer = client.responses.create(**asked, top_logprobs=2)
    assert answer.output_text == chat.choices[0].message.content
    assert answer.usage.input_tokens == chat.usage.prompt_tokens
    places = answer.output[0].content[0].logprobs
    assert len(places) == answer.usage.output_tokens
    assert all(len(place.top_logprobs) == 2 for place in places)
    with client.responses.stream(**asked) as stream:
        events = [*stream]
    said = "".join(it.delta for it in events if it.type == "response.output_text.delta")
    assert said == events[-1].response.output_text == answer.output_text
    assert events[-1].type == f"response.{answer.status}"


def test_a_body_of_chat_is_none_of_these():
    with pytest.raises(ValidationError):
        ResponseBody.model_validate({"model": "m", "messages": []})
