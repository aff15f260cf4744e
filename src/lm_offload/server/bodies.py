"""What requests may say, as OpenAI's clients write it; vLLM's names for what those lack.

A field that cannot take effect is refused, except those that say nothing about the text.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr

from lm_offload.engine.prompt_forms import PlainPrompt
from lm_offload.errors import RequestError
from lm_offload.sampling import SamplingParams, StructuredOutputs
from lm_offload.server.messages import Message
from lm_offload.server.output_formats import ResponseFormat, of_fields, of_format, only_one
from lm_offload.server.tool_bodies import Tool, ToolChoice, ToolUse, tool_use

_GUIDED = ("json", "regex", "choice", "grammar")  # vLLM's older names
TokenIds = Annotated[list[StrictInt], Field(min_length=1)]
_SAMPLING = ("n", "stop", "seed", "temperature", "top_p", "presence_penalty", "frequency_penalty")
_MORE_SAMPLING = (
    *("logit_bias", "top_k", "min_p", "repetition_penalty", "min_tokens", "ignore_eos"),
    *("stop_token_ids", "bad_words", "allowed_token_ids", "truncate_prompt_tokens"),
    *("include_stop_str_in_output", "skip_special_tokens"),
)


class StreamOptions(BaseModel):
    """Of an answer that comes in pieces."""

    model_config = ConfigDict(extra="forbid")

    include_usage: bool = False
    continuous_usage_stats: bool = False
    include_obfuscation: Literal[False] = False


class Body(BaseModel):
    """What both kinds of requests have; the defaults are OpenAI's."""

    model_config = ConfigDict(extra="forbid")

    model: str = ""  # the server's
    n: int | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    temperature: float | None = 1.0
    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[int, float] | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None

    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool | None = None
    min_tokens: int | None = None
    bad_words: list[str] | None = None
    allowed_token_ids: list[int] | None = None
    include_stop_str_in_output: bool | None = None
    skip_special_tokens: bool | None = None
    truncate_prompt_tokens: int | None = None

    response_format: ResponseFormat | None = None
    structured_outputs: dict[str, Any] | None = None
    guided_json: str | dict[str, Any] | None = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None

    user: str | None = None
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None

    @property
    def forms(self) -> dict[str, StructuredOutputs | None]:
        """What the text is held to, by the fields that may say so; raises RequestError."""
        older = {kind: getattr(self, f"guided_{kind}") for kind in _GUIDED}
        return {
            "response_format": of_format(self.response_format),
            "structured_outputs": of_fields(self.structured_outputs),
            **{f"guided_{kind}": of_fields({kind: it}) for kind, it in older.items() if it},
        }

    def sampling(self, max_tokens: int | None, logprobs: int | None) -> SamplingParams:
        """Raises RequestError for values outside their range; without a seed each call differs."""
        given = {name: getattr(self, name) for name in (*_SAMPLING, *_MORE_SAMPLING)}
        values = {name: value for name, value in given.items() if value is not None}
        return SamplingParams(
            **{"temperature": 1.0, "seed": None, **values},
            max_tokens=max_tokens,
            logprobs=logprobs,
            structured_outputs=only_one(self.forms),
        )


class CompletionBody(Body):
    """`POST /v1/completions`."""

    prompt: StrictStr | TokenIds | list[StrictStr] | list[TokenIds]
    max_tokens: int | None = 16
    logprobs: int | None = None
    echo: Literal[False] | None = None
    best_of: Literal[1] | None = None
    suffix: None = None

    @property
    def prompts(self) -> list[PlainPrompt]:
        """One or several; raises RequestError for none."""
        if self.prompt == []:
            raise RequestError("No prompt was given; give text, token ids, or a list of either.")
        if isinstance(self.prompt, str) or isinstance(self.prompt[0], int):
            return [self.prompt]
        return list(self.prompt)

    @property
    def params(self) -> SamplingParams:
        """How to draw; raises RequestError."""
        return self.sampling(self.max_tokens, self.logprobs)


class ChatBody(Body):
    """`POST /v1/chat/completions`."""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    reasoning_effort: str | None = None
    include_reasoning: bool = True

    @property
    def template(self) -> dict[str, Any]:
        """What the chat template takes beside the messages; raises RequestError."""
        given = self.chat_template_kwargs or {}
        if "chat_template" in given:
            raise RequestError(
                "chat_template was given, a program; the model's own is used, so leave it out."
            )
        effort, use = self.reasoning_effort, self.tool_use
        tools = [tool.model_dump(exclude_none=True) for tool in use.tools] if use else []
        return {
            **({"reasoning_effort": effort} if effort is not None else {}),
            **given,
            **({"tools": tools} if tools else {}),
        }

    @property
    def tool_use(self) -> ToolUse | None:
        """The tools that the answer may call; raises RequestError."""
        return tool_use(self.tools, self.tool_choice)

    @property
    def forms(self) -> dict[str, StructuredOutputs | None]:
        """Also by the tool that must be called."""
        use = self.tool_use
        return {**super().forms, "tool_choice": use.form if use else None}

    @property
    def params(self) -> SamplingParams:
        """How to draw; raises RequestError."""
        if self.top_logprobs is not None and not self.logprobs:
            raise RequestError("top_logprobs were given without logprobs; set logprobs to true.")
        most = self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens
        return self.sampling(most, (self.top_logprobs or 0) if self.logprobs else None)
