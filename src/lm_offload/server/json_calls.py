"""Calls of tools as JSON.

::

    <tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>     Hermes, Qwen; several
    {"name": "add", "parameters": {"a": 1}}                           Llama 3; several after ";"
    [TOOL_CALLS][{"name": "add", "arguments": {"a": 1}}]              Mistral
    [TOOL_CALLS]add[ARGS]{"a": 1}                                     Mistral, later

`[TOOL_CALLS]` and Llama's `<|python_tag|>` are special tokens, so the text may lack them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from lm_offload.server.tool_calls import CallForm, Schemas, ToolCall

TAG, END_TAG = "<tool_call>", "</tool_call>"
MISTRAL_MARK, LLAMA_MARK = "[TOOL_CALLS]", "<|python_tag|>"
ARGUMENTS_MARK = "[ARGS]"
JSON_BEGINS = ("{", "[")  # or a mark
_DECODER = json.JSONDecoder()


def _tagged(text: str, schemas: Schemas) -> Iterator[ToolCall]:
    while text:
        if not text.startswith(TAG):
            raise ValueError(text)
        value, text = first_value(text[len(TAG) :])
        text = text.removeprefix(END_TAG).lstrip()
        yield _call(value)


def _bare(text: str, schemas: Schemas) -> Iterator[ToolCall]:
    text = _unmarked(text)
    while text:
        if name := next((one for one in schemas if _is_named(text, one)), None):
            value, text = first_value(text[len(name) :].removeprefix(ARGUMENTS_MARK))
            yield _call({"name": name, "arguments": value})
        else:
            value, text = first_value(text)
            yield from map(_call, value if isinstance(value, list) else [value])
        text = _unmarked(text.removeprefix(";"))


def _may_be_bare(text: str, schemas: Schemas) -> bool:
    return text.startswith(JSON_BEGINS) or any(_may_name(text, name) for name in schemas)


def _may_name(text: str, name: str) -> bool:
    """Whether a text that grows may begin with the name of a function and its arguments."""
    begins = (f"{name}{{", f"{name}{ARGUMENTS_MARK}{{")
    return any(one.startswith(text) or text.startswith(one) for one in begins)


def _is_named(text: str, name: str) -> bool:
    return text.startswith((f"{name}{{", f"{name}{ARGUMENTS_MARK}"))


def _unmarked(text: str) -> str:
    text = text.strip()
    for mark in (MISTRAL_MARK, LLAMA_MARK):
        text = text.removeprefix(mark).lstrip()
    return text


def first_value(text: str) -> tuple[Any, str]:
    """The JSON at the beginning of a text, and what follows it; raises ValueError for none."""
    text = text.lstrip()
    value, stop = _DECODER.raw_decode(text)
    return value, text[stop:].lstrip()


def arguments_text(given: Any) -> str:
    """As OpenAI sends them: the text of an object; raises ValueError for arguments without names.

    Half of a character of two stays escaped: it cannot be sent as it is.
    """
    arguments = json.loads(given) if isinstance(given, str) else given
    if not isinstance(arguments, dict):
        raise ValueError(given)
    text = json.dumps(arguments, ensure_ascii=False, allow_nan=False)
    return text if _can_be_sent(text) else json.dumps(arguments)


def _can_be_sent(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _call(value: Any) -> ToolCall:
    """Raises ValueError for what names no function, or has arguments without names."""
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise ValueError(value)
    given = value.get("arguments", value.get("parameters"))
    return ToolCall(value["name"], arguments_text(given or {}))


HERMES = CallForm((TAG,), _tagged)
LLAMA3 = CallForm((LLAMA_MARK,), _bare, _may_be_bare)
MISTRAL = CallForm((MISTRAL_MARK,), _bare, _may_be_bare)
