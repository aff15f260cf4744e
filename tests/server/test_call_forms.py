"""Calls of tools in tags and between special tokens."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_offload.engine.open_run import Delta
from lm_offload.server.marked_calls import DEEPSEEK_V3, OPENAI, deepseek_mark
from lm_offload.server.replies import Choice
from lm_offload.server.tool_bodies import Tool, ToolUse
from lm_offload.server.tool_calls import read_calls
from lm_offload.server.tool_reader import ToolReader
from lm_offload.server.typed_values import as_typed
from lm_offload.server.xml_calls import GLM45, QWEN3_CODER

PROPERTIES = {
    "city": {"type": "string"},
    "days": {"type": "integer"},
    "exact": {"type": "boolean"},
    "also": {"type": ["array", "null"]},
    "code": {"type": "string"},
}
SCHEMAS = {"weather": {"type": "object", "properties": PROPERTIES}, "stop": {}}
CODE = 'if a:\n    print("</parameter> or </function> é")\n'
SAID_IN_CODER = f"""<tool_call>
<function=weather>
<parameter=city>
5
</parameter>
<parameter=days>
3
</parameter>
<parameter=exact>
True
</parameter>
<parameter=also>
["a", null]
</parameter>
<parameter=code>
{CODE}
</parameter>
</function>
</tool_call>"""
GIVEN = {"city": "5", "days": 3, "exact": True, "also": ["a", None], "code": CODE}
GLM_VALUES = {"city": "5", "days": "3", "exact": "true", "also": "null"}
IN_GLM = "\n".join(
    f"<arg_key>{key}</arg_key>\n<arg_value>{value}</arg_value>" for key, value in GLM_VALUES.items()
)
GLM_GIVEN = {"city": "5", "days": 3, "exact": True, "also": None}
BEGIN, END = deepseek_mark("tool calls begin"), deepseek_mark("tool calls end")
ONE, ONE_END = deepseek_mark("tool call begin"), deepseek_mark("tool call end")
SEPARATOR = deepseek_mark("tool sep")
V3 = f'{ONE}function{SEPARATOR}weather\n```json\n{{"days": 3}}\n```{ONE_END}'
V31 = f'{ONE}weather{SEPARATOR}{{"days": 3}}{ONE_END}'
HARMONY = "<|channel|>commentary to=functions."
DAYS, STOP = ("weather", {"days": 3}), ("stop", {})
CODER_STOP = "<function=stop>\n</function>"
CALLING = [
    (QWEN3_CODER, SAID_IN_CODER, "", [("weather", GIVEN)]),
    (QWEN3_CODER, f"So:\n{SAID_IN_CODER}\n{CODER_STOP}", "So:", [("weather", GIVEN), STOP]),
    (QWEN3_CODER, f"So: {CODER_STOP}</tool_call>", "So:", [STOP]),
    (GLM45, f"<tool_call>weather\n{IN_GLM}\n</tool_call>", "", [("weather", GLM_GIVEN)]),
    (GLM45, "Well.\n<tool_call>stop\n</tool_call>\n<tool_call>stop", "Well.", [STOP, STOP]),
    (DEEPSEEK_V3, f"I see.{BEGIN}{V3}\n{V3}{END}", "I see.", [DAYS, DAYS]),
    (DEEPSEEK_V3, f"{BEGIN}{V31}{V31}", "", [DAYS, DAYS]),
    (OPENAI, f'I see.\n{HARMONY}weather<|message|>{{"days": 3}}', "I see.", [DAYS]),
    (OPENAI, f"{HARMONY}stop<|message|>", "", [STOP]),
]  # fmt: skip
TALKING = [
    (QWEN3_CODER, "Just <tool_"),
    (QWEN3_CODER, SAID_IN_CODER[:-40]),
    (QWEN3_CODER, SAID_IN_CODER.replace("=weather", "=other")),
    (QWEN3_CODER, f"{SAID_IN_CODER} and more"),
    (QWEN3_CODER, "<tool_call>"),
    (QWEN3_CODER, '<tool_call>{"name": "stop"}</tool_call>'),
    (QWEN3_CODER, "<function=weather><parameter=city>" * 2000),
    (GLM45, f"<tool_call>weather\n{IN_GLM}"[:-14]),
    (GLM45, "<tool_call>weather<arg_key>city"),
    (GLM45, "<tool_call>weather in Rome</tool_call>"),
    (DEEPSEEK_V3, f"{BEGIN}{V3[:-30]}"),
    (DEEPSEEK_V3, f"{BEGIN}weather"),
    (DEEPSEEK_V3, BEGIN),
    (OPENAI, f'{HARMONY}weather<|message|>{{"da'),
    (OPENAI, f"{HARMONY}wea"),
]


@pytest.mark.parametrize(("form", "text", "content", "calls"), CALLING)
def test_every_form_is_found(form, text, content, calls):
    found = read_calls(text, SCHEMAS, [form])
    assert found.content == content
    assert [(call.name, json.loads(call.arguments)) for call in found.calls] == calls


@pytest.mark.parametrize(("form", "text"), TALKING)
def test_what_calls_none_of_the_tools_is_content(form, text):
    found = read_calls(text, SCHEMAS, [form])
    assert (found.content, found.calls) == (text, ())


@given(
    case=st.sampled_from([*((form, text) for form, text, *_ in CALLING), *TALKING]),
    cuts=st.lists(st.integers(0, 200)),
)
def test_pieces_give_what_the_whole_gives(case, cuts):
    form, text = case
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    tools = [tool(name, schema) for name, schema in SCHEMAS.items()]
    reader, shown, calls = ToolReader(ToolUse(tools, must=False), [form]), "", ()
    for place, (start, stop) in enumerate(pairwise(edges)):
        reason = "stop" if place == len(edges) - 2 else None
        delta = Delta(0, 0, text[start:stop], [], [], reason, 1, 0)
        part = reader(Choice(0, 0, delta, delta.text))
        shown, calls = shown + part.text, part.calls
    whole = read_calls(text, SCHEMAS, [form])
    assert (shown, calls) == (whole.content, whole.calls)


@pytest.mark.parametrize(
    ("text", "schema", "value"),
    [
        ("5", {"type": "string"}, "5"),
        ("null", {"type": "string"}, "null"),
        ("5", {"type": "integer"}, 5),
        ("five", {"type": "integer"}, "five"),
        (" 2.5\n", {"type": "number"}, 2.5),
        ("2", {"type": ["number", "string"]}, 2),
        ("2.5", {"type": ["integer", "string"]}, "2.5"),
        ("2.0", {"anyOf": [{"type": "integer"}, {"type": "string"}]}, 2.0),
        ("5", {"anyOf": [{"type": "null"}, {"type": "string"}]}, "5"),
        ("null", {"anyOf": [{"type": "null"}, {"type": "string"}]}, None),
        ("None", {"type": ["string", "null"]}, None),
        ("False", {"type": "boolean"}, False),
        ("true", {"enum": ["true", "false"]}, "true"),
        ("1", {"enum": [1, 2]}, 1),
        ("1", {"const": "1"}, "1"),
        ('{"a": [1]}', {"type": "object"}, {"a": [1]}),
        ("{'a': 1}", {"type": "object"}, "{'a': 1}"),
        ("NaN", {"type": "number"}, "NaN"),
        ("[" * 100_000, {"type": "array"}, "[" * 100_000),
        ("9" * 9999, {"type": "integer"}, "9" * 9999),
        ("5", None, 5),
        ("five", {}, "five"),
        ("5", {"type": 7, "enum": None, "anyOf": [True]}, 5),
    ],
)
def test_values_are_what_the_schema_wants(text, schema, value):
    found = as_typed(text, schema)
    assert (found, type(found)) == (value, type(value))


def tool(name: str, parameters: dict) -> Tool:
    function = {"name": name, "parameters": parameters}
    return Tool.model_validate({"type": "function", "function": function})
