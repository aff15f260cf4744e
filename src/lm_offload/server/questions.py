"""What a body asks for: prompts, how to draw from them, and how the answer looks."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Items
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from lm_offload.engine.tokenizer import Tokenizer
from lm_offload.sampling import SamplingParams
from lm_offload.server.answer_forms import ChatForm, CompletionForm, Form
from lm_offload.server.answers import Head
from lm_offload.server.bodies import ChatBody, CompletionBody
from lm_offload.server.messages import conversation
from lm_offload.server.parsers import Parsers, Reader, as_written
from lm_offload.server.worker import MakePrompt

T = TypeVar("T")


@dataclass(frozen=True)
class Question:
    """Prompts are made by the model's thread, as the tokenizer is its own."""

    prompts: Items[MakePrompt]
    params: SamplingParams
    head: Head
    form: Form
    reader: Callable[[], Reader] = as_written  # of one answer: what makes of its deltas those shown

    @property
    def with_logprobs(self) -> bool:
        """Whether log probabilities were asked for."""
        return self.params.logprobs is not None


def of_completion(body: CompletionBody, tokenizer: Tokenizer) -> Question:
    """Raises RequestError for sampling values outside their range."""
    prompts = [partial(_as_it_is, prompt) for prompt in body.prompts]
    head = Head(body.model, "text_completion", "cmpl")
    return Question(prompts, body.params, head, CompletionForm(tokenizer))


def of_chat(body: ChatBody, tokenizer: Tokenizer, parsers: Parsers) -> Question:
    """The same, and for a template; the prompt raises it where the model's refuses the messages."""
    messages = conversation(body.messages, tokenizer.chat_template)
    encode = partial(tokenizer.apply_chat_template, messages, **body.template)
    head = Head(body.model, f"chat.completion{'.chunk' * bool(body.stream)}", "chatcmpl")
    use = body.tool_use
    params = parsers.params_for(body.params, use)
    reader = partial(parsers.reader, use, body.include_reasoning)
    return Question([encode], params, head, ChatForm(tokenizer, body.top_logprobs or 0), reader)


def _as_it_is(given: T) -> T:
    return given
