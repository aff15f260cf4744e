"""The items that `/v1/responses` takes as a conversation, and the messages that they say.

An earlier answer comes as several items, which are one message of the assistant::

    reasoning, message, function_call, function_call     ->  assistant
    function_call_output                                 ->  tool
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Discriminator, Field, Tag

from lm_offload.server.answer_forms import Json

_SYSTEM = ("system", "developer")
_PARTS = ("reasoning", "content", "tool_calls")  # of a message of the assistant, in their order


class TextPart(BaseModel):
    """A part of an item."""

    type: Literal["input_text", "output_text", "text", "summary_text", "reasoning_text"]
    text: str


def _as_parts(given: Any) -> Any:
    return [{"type": "text", "text": given}] if isinstance(given, str) else given


Texts = Annotated[list[TextPart], BeforeValidator(_as_parts)]


class MessageItem(BaseModel):
    """What somebody said."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: Texts

    def message(self) -> Json:
        """As chat has it."""
        return {"role": self.role, "content": _joined(self.content)}


class ReasoningItem(BaseModel):
    """What an earlier answer reasoned; a summary counts where there is nothing else."""

    type: Literal["reasoning"]
    summary: Texts = Field(default_factory=list)
    content: Texts | None = None

    def message(self) -> Json:
        """As chat has it."""
        return {"role": "assistant", "reasoning": _joined(self.content or self.summary)}


class CallItem(BaseModel):
    """A call of a function in an earlier answer."""

    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str

    def message(self) -> Json:
        """As chat has it."""
        function = {"name": self.name, "arguments": self.arguments}
        call = {"id": self.call_id, "type": "function", "function": function}
        return {"role": "assistant", "tool_calls": [call]}


class OutputItem(BaseModel):
    """What a called function gave."""

    type: Literal["function_call_output"]
    call_id: str
    output: Texts

    def message(self) -> Json:
        """As chat has it."""
        return {"role": "tool", "tool_call_id": self.call_id, "content": _joined(self.output)}


def _kind(item: Any) -> Any:
    """Of messages it may be left out."""
    return item.get("type", "message") if isinstance(item, dict) else getattr(item, "type", None)


Item = Annotated[
    Annotated[MessageItem, Tag("message")]
    | Annotated[ReasoningItem, Tag("reasoning")]
    | Annotated[CallItem, Tag("function_call")]
    | Annotated[OutputItem, Tag("function_call_output")],
    Discriminator(
        _kind,
        custom_error_type="unknown_item",
        custom_error_message="Items may be a message, reasoning, function_call or "
        "function_call_output",
    ),
]


def as_items(given: Any) -> Any:
    """Text is what the user says."""
    return [{"role": "user", "content": given}] if isinstance(given, str) else given


def messages_of(instructions: str | None, items: Iterable[Item]) -> list[Json]:
    """The conversation that they say, instructions first."""
    messages = [{"role": "system", "content": instructions}] if instructions else []
    for item in items:
        said = item.message()
        if messages and (one := _one_message(messages[-1], said)) is not None:
            messages[-1] = one
        else:
            messages.append(said)
    return messages


def _one_message(earlier: Json, later: Json) -> Json | None:
    """Both as one, where templates take them so: leading instructions, or parts of an answer."""
    if earlier["role"] in _SYSTEM and later["role"] in _SYSTEM:
        return {**earlier, "content": f"{earlier['content']}\n\n{later['content']}"}
    if not earlier["role"] == later["role"] == "assistant":
        return None
    calls = [*earlier.get("tool_calls", ()), *later.get("tool_calls", ())]
    if "tool_calls" in later:
        return {**earlier, "tool_calls": calls}
    return {**earlier, **later} if _latest(earlier) < _latest(later) else None


def _latest(message: Json) -> int:
    return max(_PARTS.index(part) for part in _PARTS if part in message)


def _joined(parts: Iterable[TextPart]) -> str:
    return "".join(part.text for part in parts)
