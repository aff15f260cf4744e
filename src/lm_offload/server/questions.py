"""What a body asks for: prompts, how to draw from them, and how the answer looks."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Items
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from lm_offload.engine.tokenizer import Tokenizer
from lm_offload.sampling import SamplingParams
from lm_offload.server.answer_forms import ChatForm, CompletionForm, Form, token_logprobs
from lm_offload.server.answers import Answer, ChoicesAnswer
from lm_offload.server.bodies import ChatBody, CompletionBody, StreamOptions
from lm_offload.server.head import Head
from lm_offload.server.messages import conversation
from lm_offload.server.parsers import Parsers, Reader, as_written
from lm_offload.server.response_answer import ResponseAnswer
from lm_offload.server.response_body import ResponseBody
from lm_offload.server.worker import MakePrompt

MakeTokens = Callable[[], list[int]]
T = TypeVar("T")


@dataclass(frozen=True)
class Question:
    """Prompts are made by the model's thread, as the tokenizer is its own."""

    model: str
    prompts: Items[MakePrompt]
    params: SamplingParams
    answer: Answer
    reader: Callable[[], Reader] = as_written  # of one answer: what makes of its deltas those shown


def of_completion(body: CompletionBody, tokenizer: Tokenizer) -> Question:
    """Raises RequestError for sampling values outside their range."""
    prompts = [partial(_as_it_is, prompt) for prompt in body.prompts]
    head = Head(body.model, "text_completion", "cmpl")
    answer = _choices(body, head, CompletionForm(tokenizer))
    return Question(body.model, prompts, body.params, answer)


def of_chat(body: ChatBody, tokenizer: Tokenizer, parsers: Parsers) -> Question:
    """The same, and for a template; the prompt raises it where the model's refuses the messages."""
    head = Head(body.model, f"chat.completion{'.chunk' * bool(body.stream)}", "chatcmpl")
    answer = _choices(body, head, ChatForm(tokenizer, body.top_logprobs or 0))
    return _conversation(body, tokenizer, parsers, answer)


def of_response(body: ResponseBody, tokenizer: Tokenizer, parsers: Parsers) -> Question:
    """The same conversation, shown as items."""
    chat = body.chat
    shown = partial(token_logprobs, tokenizer=tokenizer, top=body.top_logprobs or 0)
    return _conversation(chat, tokenizer, parsers, ResponseAnswer(body.echo, shown))


def prompt_of(body: ChatBody, tokenizer: Tokenizer) -> MakeTokens:
    """What makes tokens of a conversation, by the model's template; raises RequestError."""
    messages = conversation(body.messages, tokenizer.chat_template)
    return partial(tokenizer.apply_chat_template, messages, **body.template)


def _conversation(
    body: ChatBody, tokenizer: Tokenizer, parsers: Parsers, answer: Answer
) -> Question:
    use = body.tool_use
    params = parsers.params_for(body.params, use)
    reader = partial(parsers.reader, use, body.include_reasoning)
    return Question(body.model, [prompt_of(body, tokenizer)], params, answer, reader)


def _choices(body: CompletionBody | ChatBody, head: Head, form: Form) -> Answer:
    with_logprobs = body.params.logprobs is not None
    return ChoicesAnswer(head, form, with_logprobs, body.stream_options or StreamOptions())


def _as_it_is(given: T) -> T:
    return given
