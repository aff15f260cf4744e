"""What requests of `/v1/responses` may say: a conversation as items, answered as chat is."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from lm_offload.errors import RequestError
from lm_offload.server.answer_forms import Json
from lm_offload.server.bodies import Body, ChatBody
from lm_offload.server.output_formats import NamedSchema
from lm_offload.server.response_items import Item, as_items, messages_of

Included = Literal["reasoning.encrypted_content", "message.output_text.logprobs"]
_LOGPROBS = "message.output_text.logprobs"
_ECHOED = ("instructions", "max_output_tokens", "metadata", "temperature", "top_p", "top_logprobs")


class SchemaFormat(NamedSchema):
    """JSON by a schema, which has no object of its own here."""

    type: Literal["json_schema"]


class PlainFormat(BaseModel):
    """Any text, or any JSON object."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["text", "json_object"] = "text"


class TextSettings(BaseModel):
    """Of the text of the answer."""

    model_config = ConfigDict(extra="forbid")

    format: Annotated[PlainFormat | SchemaFormat, Field(discriminator="type")] = PlainFormat()
    verbosity: Literal["medium"] | None = None

    @property
    def response_format(self) -> Json:
        """As chat has it."""
        given = self.format.model_dump(by_alias=True)
        kind = given.pop("type")
        return {"type": kind, **({"json_schema": given} if given else {})}


class ReasoningSettings(BaseModel):
    """The effort reaches the chat template; reasoning is shown whole, so a summary is no other."""

    model_config = ConfigDict(extra="forbid")

    effort: str | None = None
    summary: str | None = None
    generate_summary: str | None = None


class FunctionTool(BaseModel):
    """A function is the only kind of tool; unlike in chat it has no object of its own."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["function"]
    name: Annotated[str, Field(min_length=1)]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None

    @property
    def tool(self) -> Json:
        """As chat has it."""
        function = self.model_dump(exclude={"type"}, exclude_none=True)
        return {"type": "function", "function": function}


class FunctionChoice(BaseModel):
    """The one that is to be called."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["function"]
    name: str

    @property
    def in_chat(self) -> Json:
        """As chat has it."""
        return {"type": "function", "function": {"name": self.name}}


class ResponseBody(Body):
    """`POST /v1/responses`."""

    input: Annotated[list[Item], BeforeValidator(as_items), Field(min_length=1)]
    instructions: str | None = None
    max_output_tokens: int | None = None
    text: TextSettings | None = None
    reasoning: ReasoningSettings | None = None
    tools: list[FunctionTool] | None = None
    tool_choice: Literal["none", "auto", "required"] | FunctionChoice | None = None
    parallel_tool_calls: bool | None = None
    top_logprobs: int | None = None
    include: list[Included] = Field(default_factory=list)
    include_reasoning: bool = True
    chat_template_kwargs: dict[str, Any] | None = None
    previous_response_id: str | None = None
    truncation: Literal["disabled"] | None = None
    background: Literal[False] | None = None
    conversation: None = None
    prompt: None = None

    max_tool_calls: int | None = None  # of tools that a server runs, of which there are none
    prompt_cache_retention: str | None = None

    @property
    def chat(self) -> ChatBody:
        """The same as a request of chat; raises RequestError for what a response cannot have."""
        if self.previous_response_id is not None:
            raise RequestError(
                "previous_response_id was given, and answers are not kept; send the items of the "
                "conversation in input."
            )
        if self.n not in (None, 1):
            raise RequestError(f"n is {self.n}; a response is one answer, so leave it out.")
        common = self.model_fields_set & Body.model_fields.keys()
        given = {name: getattr(self, name) for name in common}
        return ChatBody.model_validate({**given, **self._own_in_chat})

    @property
    def _own_in_chat(self) -> Json:
        choice, effort = self.tool_choice, self.reasoning and self.reasoning.effort
        own = {
            "messages": messages_of(self.instructions, self.input),
            "max_tokens": self.max_output_tokens,
            "response_format": self.text and self.text.response_format,
            "reasoning_effort": effort,
            "tools": [tool.tool for tool in self.tools or ()],
            "tool_choice": choice.in_chat if isinstance(choice, FunctionChoice) else choice,
            "logprobs": self.top_logprobs is not None or _LOGPROBS in self.include,
            "top_logprobs": self.top_logprobs,
            "include_reasoning": self.include_reasoning,
            "chat_template_kwargs": self.chat_template_kwargs,
        }
        return {name: value for name, value in own.items() if value is not None}

    @property
    def echo(self) -> Json:
        """What the answer repeats of it; raises RequestError for what JSON does not have."""
        text = self.text or TextSettings()
        choice = self.tool_choice or "auto"
        repeated = {
            "model": self.model,
            **{name: getattr(self, name) for name in _ECHOED},
            "text": text.model_dump(by_alias=True, exclude_none=True),
            "reasoning": (self.reasoning or ReasoningSettings()).model_dump(),
            "tools": [tool.model_dump() for tool in self.tools or ()],
            "tool_choice": choice if isinstance(choice, str) else choice.model_dump(),
            "parallel_tool_calls": self.parallel_tool_calls is not False,
            "truncation": "disabled",
            "background": False,
            "store": False,
            "previous_response_id": None,
        }
        for name, value in repeated.items():
            _check_sendable(name, value)
        return repeated


def _check_sendable(name: str, value: Any) -> None:
    """Python reads JSON that it cannot send: NaN, and halves of characters of two."""
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        raise RequestError(
            f"{name} has a number that is none, half of a character or too many levels, which an "
            "answer cannot repeat; change it."
        ) from error
