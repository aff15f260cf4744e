"""Finds calls of tools in texts, in the forms that chat templates teach.

::

    <tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>     Hermes, Qwen; several
    {"name": "add", "parameters": {"a": 1}}                           Llama 3; several after ";"
    [TOOL_CALLS][{"name": "add", "arguments": {"a": 1}}]              Mistral
    [TOOL_CALLS]add[ARGS]{"a": 1}                                     Mistral, later

`[TOOL_CALLS]` and Llama's `<|python_tag|>` are special tokens, so the text may lack them.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from lm_offload.engine.text_stream import held_back

TAG, END_TAG = "<tool_call>", "</tool_call>"
MARKS = ("[TOOL_CALLS]", "<|python_tag|>")
ARGUMENTS_MARK = "[ARGS]"
JSON_BEGINS = ("{", "[")  # or a mark
ID_LENGTH = 9  # Mistral's templates take no other
_DECODER = json.JSONDecoder()


@dataclass(frozen=True)
class ToolCall:
    """A function to be called, its arguments as the text of a JSON object."""

    name: str
    arguments: str
    id: str = field(default_factory=lambda: uuid4().hex[:ID_LENGTH], compare=False)

    def as_json(self) -> dict[str, Any]:
        """As OpenAI writes it."""
        function = {"name": self.name, "arguments": self.arguments}
        return {"id": self.id, "type": "function", "function": function}


@dataclass(frozen=True)
class Reading:
    """What a text says beside its calls, and those."""

    content: str
    calls: tuple[ToolCall, ...] = ()


def read_calls(text: str, names: Collection[str]) -> Reading:
    """The calls of functions with these names; all is content where anything else is called."""
    for start in dict.fromkeys((0, _first_mark(text, 0))):  # a mark may be within arguments
        if calls := _calls(text[start:], names):
            return Reading(text[:start].rstrip(), calls)
    return Reading(text)


def _calls(text: str, names: Collection[str]) -> tuple[ToolCall, ...]:
    """All that a text consists of; none where there is anything else."""
    try:
        found = _tagged(text) if text.startswith(TAG) else _bare(_unmarked(text), names)
        calls = tuple(found)
    except (ValueError, RecursionError):
        return ()
    return calls if all(call.name in names for call in calls) else ()


def certain_content(text: str, names: Collection[str]) -> int:
    """Characters at its beginning that are content, whatever follows."""
    begun = text.lstrip()
    if not begun or begun.startswith(JSON_BEGINS) or any(_may_name(begun, name) for name in names):
        return 0
    stop = _first_mark(text, len(text) - held_back(text, (TAG, *MARKS)))
    return len(text[:stop].rstrip())


def _first_mark(text: str, default: int) -> int:
    places = (text.find(mark) for mark in (TAG, *MARKS))
    return min((place for place in places if place >= 0), default=default)


def _may_name(text: str, name: str) -> bool:
    """Whether a text that grows may begin with the name of a function and its arguments."""
    begins = (f"{name}{{", f"{name}{ARGUMENTS_MARK}{{")
    return any(one.startswith(text) or text.startswith(one) for one in begins)


def _tagged(text: str) -> Iterator[ToolCall]:
    """Raises ValueError for what is none."""
    while text:
        if not text.startswith(TAG):
            raise ValueError(text)
        value, text = _value(text[len(TAG) :])
        text = text.removeprefix(END_TAG).lstrip()
        yield _call(value)


def _bare(text: str, names: Collection[str]) -> Iterator[ToolCall]:
    """Raises ValueError for what is none."""
    while text:
        if name := next((one for one in names if _is_named(text, one)), None):
            value, text = _value(text[len(name) :].removeprefix(ARGUMENTS_MARK))
            yield _call({"name": name, "arguments": value})
        else:
            value, text = _value(text)
            yield from map(_call, value if isinstance(value, list) else [value])
        text = _unmarked(text.removeprefix(";"))


def _is_named(text: str, name: str) -> bool:
    return text.startswith((f"{name}{{", f"{name}{ARGUMENTS_MARK}"))


def _unmarked(text: str) -> str:
    text = text.strip()
    for mark in MARKS:
        text = text.removeprefix(mark).lstrip()
    return text


def _value(text: str) -> tuple[Any, str]:
    """The JSON at the beginning of a text, and what follows it."""
    text = text.lstrip()
    value, stop = _DECODER.raw_decode(text)
    return value, text[stop:].lstrip()


def _call(value: Any) -> ToolCall:
    """Raises ValueError for what names no function, or has arguments without names."""
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise ValueError(value)
    given = value.get("arguments", value.get("parameters")) or {}
    arguments = json.loads(given) if isinstance(given, str) else given
    if not isinstance(arguments, dict):
        raise ValueError(value)
    return ToolCall(value["name"], _as_text(arguments))


def _as_text(arguments: dict[str, Any]) -> str:
    """JSON as it is sent: half of a character of two stays escaped; raises ValueError for NaN."""
    text = json.dumps(arguments, ensure_ascii=False, allow_nan=False)
    return text if _can_be_sent(text) else json.dumps(arguments)


def _can_be_sent(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
