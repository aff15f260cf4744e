"""Calls of tools between special tokens.

::

    <|tool_calls_begin|><|tool_call_begin|>function<|tool_sep|>add              DeepSeek V3 and R1;
    ```json                                                                     several
    {"a": 1}
    ```<|tool_call_end|><|tool_calls_end|>
    <|tool_calls_begin|><|tool_call_begin|>add<|tool_sep|>{"a": 1}<|tool_call_end|>     V3.1
    <|channel|>commentary to=functions.add<|message|>{"a": 1}                   gpt-oss

DeepSeek's bars are wide ones and its low lines are blocks. Those of gpt-oss are as
`channels.py` leaves them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from lm_offload.engine.channels import CALL, MESSAGE
from lm_offload.server.json_calls import arguments_text, first_value
from lm_offload.server.tool_calls import CallForm, Schemas, ToolCall

FENCE = "```"
_HARMONY = re.compile(rf"{re.escape(CALL)}([^\s<]+){re.escape(MESSAGE)}")


def deepseek_mark(words: str) -> str:
    """A special token of DeepSeek by its words."""
    bar, low = "\N{FULLWIDTH VERTICAL LINE}", "\N{LOWER ONE EIGHTH BLOCK}"
    return f"<{bar}{words.replace(' ', low)}{bar}>"


BEGIN, END = deepseek_mark("tool calls begin"), deepseek_mark("tool calls end")
CALL_BEGIN, CALL_END = deepseek_mark("tool call begin"), deepseek_mark("tool call end")
SEPARATOR = deepseek_mark("tool sep")


def _deepseek_calls(text: str, schemas: Schemas) -> Iterator[ToolCall]:
    text = text.removeprefix(BEGIN).lstrip()
    while text:
        if not text.startswith(CALL_BEGIN):
            raise ValueError(text)
        name, _, text = text.removeprefix(CALL_BEGIN).partition(SEPARATOR)
        if name.strip() == "function" and not text.lstrip().startswith("{"):
            name, _, text = text.partition("\n")
        value, text = first_value(text.strip().removeprefix(f"{FENCE}json"))
        yield ToolCall(name.strip(), arguments_text(value))
        for mark in (FENCE, CALL_END, END):
            text = text.removeprefix(mark).lstrip()


def _channel_calls(text: str, schemas: Schemas) -> Iterator[ToolCall]:
    while text := text.lstrip():
        if (found := _HARMONY.match(text)) is None:
            raise ValueError(text)
        value, text = first_value(text[found.end() :] or "{}")
        yield ToolCall(found[1], arguments_text(value))


DEEPSEEK_V3 = CallForm((BEGIN, CALL_BEGIN), _deepseek_calls, needed=(BEGIN, SEPARATOR))
OPENAI = CallForm((CALL,), _channel_calls, needed=(MESSAGE,))
