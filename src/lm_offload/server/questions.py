"""What a body asks for: prompts, how to draw from them, and how the answer looks."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Items
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from lm_offload.engine.tokenizer import Tokenizer
from lm_offload.errors import RequestError
from lm_offload.sampling import SamplingParams
from lm_offload.server.answers import ChatForm, CompletionForm, Form, Head
from lm_offload.server.bodies import ChatBody, CompletionBody
from lm_offload.server.replies import Choice
from lm_offload.server.tool_bodies import ToolUse
from lm_offload.server.tool_reader import ToolReader
from lm_offload.server.worker import MakePrompt

T = TypeVar("T")


@dataclass(frozen=True)
class Question:
    """Prompts are made by the model's thread, as the tokenizer is its own."""

    prompts: Items[MakePrompt]
    params: SamplingParams
    head: Head
    form: Form
    tools: ToolUse | None = None

    def reader(self) -> Callable[[Choice], Choice]:
        """What makes of the deltas of one answer those that are shown."""
        return ToolReader(self.tools) if self.tools else _as_it_is

    @property
    def with_logprobs(self) -> bool:
        """Whether log probabilities were asked for."""
        return self.params.logprobs is not None


def of_completion(body: CompletionBody, tokenizer: Tokenizer) -> Question:
    """Raises RequestError for sampling values outside their range."""
    prompts = [partial(_as_it_is, prompt) for prompt in body.prompts]
    head = Head(body.model, "text_completion", "cmpl")
    return Question(prompts, body.params, head, CompletionForm(tokenizer))


def of_chat(body: ChatBody, tokenizer: Tokenizer) -> Question:
    """The same, and for a template; the prompt raises it where the model's refuses the messages."""
    template = body.chat_template_kwargs or {}
    if "chat_template" in template:
        raise RequestError(
            "chat_template was given, a program; the model's own is used, so leave it out."
        )
    use = body.tool_use
    if use is not None:
        template = {**template, "tools": [tool.model_dump(exclude_none=True) for tool in use.tools]}
    encode = partial(tokenizer.apply_chat_template, body.conversation, **template)
    head = Head(body.model, f"chat.completion{'.chunk' * bool(body.stream)}", "chatcmpl")
    return Question([encode], body.params, head, ChatForm(tokenizer, body.top_logprobs or 0), use)


def _as_it_is(given: T) -> T:
    return given
