"""Calls of tools in tags, with a tag for each argument.

::

    <tool_call><function=add><parameter=a>1</parameter></function></tool_call>      Qwen3-Coder
    <tool_call>add<arg_key>a</arg_key><arg_value>1</arg_value></tool_call>          GLM-4.5

A value ends where a tag follows that can come next, so it may hold the tag that ends it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from lm_offload.server.json_calls import END_TAG, TAG, arguments_text
from lm_offload.server.tool_calls import CallForm, Schemas, ToolCall
from lm_offload.server.typed_values import as_typed

FUNCTION, KEY = "<function=", "<arg_key>"
_NAME = re.compile(r"<function=([^>\n]+)>\s*")
_PARAMETER = re.compile(r"<parameter=([^>\n]+)>")
_PARAMETER_END = re.compile(r"</parameter>\s*(?=<parameter=|</function>)")
_GLM_NAME = re.compile(r"\s*([^<\s]+)\s*(?=<arg_key>|</tool_call>|\Z)")
_GLM_KEY = re.compile(r"<arg_key>([^<]*)</arg_key>\s*<arg_value>")
_GLM_END = re.compile(r"</arg_value>\s*(?=<arg_key>|</tool_call>|<tool_call>|\Z)")


def _coder_calls(text: str, schemas: Schemas) -> Iterator[ToolCall]:
    """The outer tag is left out by some models."""
    while text := text.removeprefix(TAG).lstrip():
        name, text = _taken(_NAME, text)
        arguments = {}
        while not text.startswith("</function>"):
            key, text = _taken(_PARAMETER, text)
            value, text = _up_to(_PARAMETER_END, text)
            arguments[key] = value.removeprefix("\n").removesuffix("\n")
        yield _call(name, arguments, schemas)
        text = text.removeprefix("</function>").lstrip().removeprefix(END_TAG).lstrip()


def _glm_calls(text: str, schemas: Schemas) -> Iterator[ToolCall]:
    while text:
        if not text.startswith(TAG):
            raise ValueError(text)
        name, text = _taken(_GLM_NAME, text.removeprefix(TAG))
        arguments = {}
        while text.startswith(KEY):
            key, text = _taken(_GLM_KEY, text)
            arguments[key.strip()], text = _up_to(_GLM_END, text)
        yield _call(name, arguments, schemas)
        text = text.removeprefix(END_TAG).lstrip()


def _taken(pattern: re.Pattern[str], text: str) -> tuple[str, str]:
    """What stands at the beginning, and what follows it; raises ValueError for something else."""
    if (found := pattern.match(text)) is None:
        raise ValueError(text)
    return found[1].strip(), text[found.end() :]


def _up_to(pattern: re.Pattern[str], text: str) -> tuple[str, str]:
    """The text before it, and what follows; raises ValueError where it never comes."""
    if (found := pattern.search(text)) is None:
        raise ValueError(text)
    return text[: found.start()], text[found.end() :]


def _call(name: str, arguments: dict[str, str], schemas: Schemas) -> ToolCall:
    properties = schemas.get(name, {}).get("properties")
    known: dict[str, Any] = properties if isinstance(properties, dict) else {}
    typed = {key: as_typed(value, known.get(key)) for key, value in arguments.items()}
    return ToolCall(name, arguments_text(typed))


QWEN3_CODER = CallForm((TAG, FUNCTION), _coder_calls, needed=(TAG, END_TAG))
GLM45 = CallForm((TAG,), _glm_calls, needed=(TAG, END_TAG, KEY, "<arg_value>"))
