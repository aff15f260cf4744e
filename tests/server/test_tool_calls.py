"""Calls of tools in texts, whole and as they grow."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_offload.engine.open_run import Delta
from lm_offload.server.call_text import CallText
from lm_offload.server.json_calls import HERMES, LLAMA3, MISTRAL
from lm_offload.server.replies import Choice
from lm_offload.server.tool_bodies import Tool, ToolUse, tool_use
from lm_offload.server.tool_calls import CallForm, ToolCall, read_calls
from lm_offload.server.tool_reader import ToolReader

SCHEMAS = {"add": {}, "look_up": {}}
FORMS = [HERMES, LLAMA3, MISTRAL]
ONE, TWO = ToolCall("add", '{"a": 1}'), ToolCall("look_up", '{"of": "<tool_call> {é}"}')
SAID_ONE = '{"name": "add", "arguments": {"a": 1}}'
SAID_TWO = '{"name": "look_up", "arguments": {"of": "<tool_call> {é}"}}'
LLAMA = '{"name": "look_up", "parameters": {"of": "<tool_call> {é}"}}'
CALLING = [
    (f"<tool_call>\n{SAID_ONE}\n</tool_call>", "", (ONE,)),
    (f"So:\n<tool_call>{SAID_TWO}</tool_call>\n<tool_call>{SAID_ONE}", "So:", (TWO, ONE)),
    (f"\n{LLAMA}", "", (TWO,)),
    (f"<|python_tag|>{SAID_ONE}; {LLAMA}", "", (ONE, TWO)),
    (f"[TOOL_CALLS] [{SAID_ONE}, {SAID_TWO}]", "", (ONE, TWO)),
    (f"[{SAID_TWO}]", "", (TWO,)),
    (f"[1] says so.\n<tool_call>{SAID_ONE}</tool_call>", "[1] says so.", (ONE,)),
    ('I add. [TOOL_CALLS]add[ARGS]{"a": 1}', "I add.", (ONE,)),
    ('add{"a": 1}look_up{"of": "<tool_call> {é}"}', "", (ONE, TWO)),
    ('[TOOL_CALLS]add{"a": 1}[TOOL_CALLS]add[ARGS]{"a": 1}', "", (ONE, ONE)),
    ('{"name": "add"}', "", (ToolCall("add", "{}"),)),
    ('{"name": "add", "arguments": "{\\"a\\": 1}"}', "", (ONE,)),
    ('{"name": "add", "arguments": null}', "", (ToolCall("add", "{}"),)),
    ('add{"a": "\\ud800"}', "", (ToolCall("add", '{"a": "\\ud800"}'),)),  # half a character
]
TALKING = [
    "Just text.\n",
    '{"name": "subtract", "arguments": {}}',
    "<tool_call>add(1)</tool_call>",
    f"<tool_call>{SAID_ONE}</tool_call> and more",
    '{"name": "add", "arguments": {"a": 1}',
    '{"title": "add"}',
    '{"name": "add", "arguments": [1]}',
    '{"name": "add", "arguments": "1 and 1"}',
    'add{"a": NaN}',
    'add{"a": 1e999}',
    "add it up",
    "[1, 2]",
    "[TOOL_CALLS]",
    "[" * 100_000,
    "a <tool_cal",
    "",
]


@pytest.mark.parametrize(("text", "content", "calls"), CALLING)
def test_every_form_is_found(text, content, calls):
    found = read_calls(text, SCHEMAS, FORMS)
    assert (found.content, found.calls) == (content, calls)
    assert len({call.id for call in found.calls}) == len(calls)


@pytest.mark.parametrize("text", TALKING)
def test_what_calls_none_of_the_tools_is_content(text):
    found = read_calls(text, SCHEMAS, FORMS)
    assert (found.content, found.calls) == (text, ())


@given(
    text=st.sampled_from([*(text for text, *_ in CALLING), *TALKING]),
    cuts=st.lists(st.integers(0, 80)),
)
def test_pieces_give_what_the_whole_gives(text, cuts):
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    reader = ToolReader(ToolUse([tool(name) for name in SCHEMAS], must=False), FORMS)
    shown, calls = "", ()
    for place, (start, stop) in enumerate(pairwise(edges)):
        reason = "stop" if place == len(edges) - 2 else None
        part = reader(Choice(0, 0, delta_of(text[start:stop], reason), text[start:stop]))
        assert not calls
        shown, calls = shown + part.text, part.calls
        assert part.finish_reason == ("tool_calls" if part.calls else reason)
    whole = read_calls(text, SCHEMAS, FORMS)
    assert (shown, calls) == (whole.content, whole.calls)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("So I add. ", "So I add."),
        ("So I add.\n<tool", "So I add."),
        ("So I add.\n<tool_call> and", "So I add."),
        ("So I add.\n<tools", "So I add.\n<tools"),
        ("ad", ""),
        ("adding", "adding"),
        ('  {"na', ""),
        ('{"na' + "x" * 50, ""),
    ],
)
@pytest.mark.parametrize("step", [1, 3, 100])
def test_content_is_shown_as_soon_as_it_is_certain(text, shown, step):
    growing = CallText(SCHEMAS, FORMS, must=False)
    pieces = [text[start : start + step] for start in range(0, len(text), step)]
    assert "".join(growing.add(piece, False).content for piece in pieces) == shown


def test_what_was_shown_is_not_looked_at_again():
    reads = []

    def read(text, schemas):
        reads.append(text)
        raise ValueError(text)

    growing = CallText(SCHEMAS, [CallForm(("<call>",), read)], must=False)
    for _ in range(50):
        growing.add("Well, ", False)
    assert growing.add("<call>x", True).content == " <call>x"
    assert reads == [" <call>x", "<call>x"]


def test_choices_are_read_apart():
    reader = ToolReader(ToolUse([tool("add")], must=False), FORMS)
    first = Choice(0, 0, delta_of("<tool_call>", None), "<tool_call>")
    other = Choice(1, 0, delta_of("Well", "stop"), "Well")
    last = Choice(0, 0, delta_of(SAID_ONE, "stop"), SAID_ONE)
    assert [reader(it).text for it in (first, other)] == ["", "Well"]
    assert reader(last).calls == (ONE,)


def test_a_demanded_call_that_was_cut_off_is_content():
    reader = ToolReader(ToolUse([tool("add")], must=True), [LLAMA3])
    part = reader(Choice(0, 0, delta_of(SAID_ONE[:9], "length"), SAID_ONE[:9]))
    assert (part.text, part.calls, part.finish_reason) == (SAID_ONE[:9], (), "length")


def test_references_of_a_tool_are_to_its_own_schema():
    parameters = {"properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": {"A": {"type": "null"}}}
    tools = [tool("first"), tool("add", parameters)]
    schema = json.loads(tool_use(tools, "required").form.json)
    place = schema["anyOf"][1]["properties"]["arguments"]["properties"]["a"]["$ref"]
    found = schema
    for key in place.removeprefix("#/").split("/"):
        found = found[int(key) if isinstance(found, list) else key]
    assert found == {"type": "null"}


def test_which_tools_may_be_called():
    tools = [tool("add"), tool("look_up")]
    assert tool_use(tools, None).schemas == SCHEMAS
    assert tool_use(tools, "auto").form is None
    assert tool_use(tools, "none") is None
    assert tool_use(None, "auto") is None
    assert tool_use(tools, "required").schemas == SCHEMAS


def tool(name: str, parameters: dict | None = None) -> Tool:
    function = {"name": name, "parameters": parameters}
    return Tool.model_validate({"type": "function", "function": function})


def delta_of(text: str, reason: str | None) -> Delta:
    return Delta(0, 0, text, [], [], reason, 1, 0)
