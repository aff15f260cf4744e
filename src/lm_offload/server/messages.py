"""Messages of a conversation, as clients write them and as chat templates take them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from lm_offload.errors import RequestError, shown

DEVELOPER = "developer"
# In chat templates that join arguments to other text, as DeepSeek's do; others take them by name.
_JOINED_ARGUMENTS = re.compile(r"\['arguments'\] *\+")


class TextPart(BaseModel):
    """A part of a message."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["text"]
    text: str


class CalledFunction(BaseModel):
    """What was called; OpenAI's clients give its arguments as text."""

    model_config = ConfigDict(extra="allow")

    name: str
    arguments: str | dict[str, Any] = ""

    def plain(self) -> dict[str, Any]:
        """As chat templates take it: arguments by their names; raises RequestError."""
        given = self.arguments
        try:
            arguments = json.loads(given or "{}") if isinstance(given, str) else given
        except (ValueError, RecursionError) as error:
            raise RequestError(
                f"A call of {shown(repr(self.name))} in messages has the arguments "
                f"{shown(repr(given))}; give a JSON object."
            ) from error
        return {**self.model_dump(exclude_unset=True), "arguments": arguments}


class EarlierCall(BaseModel):
    """A call of a tool in an earlier answer."""

    model_config = ConfigDict(extra="allow")

    function: CalledFunction

    def plain(self) -> dict[str, Any]:
        """As chat templates take it."""
        return {**self.model_dump(exclude_unset=True), "function": self.function.plain()}


class Message(BaseModel):
    """One of a conversation; what a template knows besides is passed on to it."""

    model_config = ConfigDict(extra="allow")

    role: str
    content: str | list[TextPart] | None = None
    tool_calls: list[EarlierCall] | None = None

    def plain(self) -> dict[str, Any]:
        """As chat templates take it: text in place of parts; raises RequestError."""
        parts = [self.content] if isinstance(self.content, str) else self.content or []
        texts = [part if isinstance(part, str) else part.text for part in parts]
        said = {**self.model_dump(exclude_unset=True), "content": "".join(texts)}
        said.pop("tool_calls", None)
        said |= _reasoning(said)
        if self.tool_calls:
            said["tool_calls"] = [call.plain() for call in self.tool_calls]
        return said


def _reasoning(said: Mapping[str, Any]) -> dict[str, Any]:
    """What an earlier answer reasoned, by the names that templates know.

    That of gpt-oss takes `thinking` beside calls alone, not beside content; transformers would fill
    it from the others.
    """
    reasoning = said.get("reasoning_content") or said.get("reasoning")
    if not isinstance(reasoning, str) or not reasoning:
        return {}
    thinking = "" if said["content"] else reasoning
    return {"reasoning_content": reasoning, "reasoning": reasoning, "thinking": thinking}


def conversation(messages: Iterable[Message], template: str) -> list[dict[str, Any]]:
    """All messages as this chat template takes them; raises RequestError."""
    plain = [message.plain() for message in messages]
    if DEVELOPER not in template:
        plain = [_by_the_system(one) for one in plain]
    return [_joinable(one) for one in plain] if _JOINED_ARGUMENTS.search(template) else plain


def _by_the_system(said: dict[str, Any]) -> dict[str, Any]:
    """OpenAI's newer name of the role, for templates that do not know it."""
    return {**said, "role": "system"} if said["role"] == DEVELOPER else said


def _joinable(said: dict[str, Any]) -> dict[str, Any]:
    """With arguments as text."""
    if "tool_calls" not in said:
        return said
    calls = [{**call, "function": _with_text(call["function"])} for call in said["tool_calls"]]
    return {**said, "tool_calls": calls}


def _with_text(function: Mapping[str, Any]) -> dict[str, Any]:
    return {**function, "arguments": json.dumps(function["arguments"], ensure_ascii=False)}
