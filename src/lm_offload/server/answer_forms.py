"""How choices look in OpenAI's JSON: those of completions and those of chat."""

from __future__ import annotations

from collections.abc import Sequence as Items
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Protocol

from lm_offload.engine.tokenizer import Tokenizer
from lm_offload.sampling.logprobs import Logprob
from lm_offload.server.replies import Choice
from lm_offload.server.tool_calls import ToolCall

Json = dict[str, Any]
Places = Items[tuple[int, dict[int, Logprob]]]  # tokens and what was likely in their places


@dataclass(frozen=True)
class Said:
    """What is shown of a choice, or of a piece of it."""

    text: str
    calls: Items[ToolCall] = ()
    reasoning: str = ""


class Form(Protocol):
    """How the choices of one kind of answer look."""

    def whole(self, said: Said) -> Json:
        """A choice that is complete."""

    def part(self, said: Said, is_first: bool) -> Json:
        """A piece of it."""

    def logprobs(self, places: Places, offset: int = 0) -> Json:
        """Log probabilities of tokens, of which the first stands at `offset` of the text."""


class CompletionForm:
    """Of `/v1/completions`."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def whole(self, said: Said) -> Json:
        """`text` at the top."""
        return {"text": said.text}

    def part(self, said: Said, is_first: bool) -> Json:
        """The same."""
        return {"text": said.text}

    def logprobs(self, places: Places, offset: int = 0) -> Json:
        """Lists, one entry for each token."""
        texts = [self._tokenizer.decode_all([token]) for token, _ in places]
        offsets = [*accumulate(map(len, texts), initial=offset)][:-1]
        return {
            "tokens": texts,
            "token_logprobs": [likely[token].logprob for token, likely in places],
            "top_logprobs": [
                {
                    self._tokenizer.decode_all([other]): entry.logprob
                    for other, entry in likely.items()
                }
                for _, likely in places
            ],
            "text_offset": offsets,
        }


class ChatForm:
    """Of `/v1/chat/completions`; `top` likely tokens are shown in each place."""

    def __init__(self, tokenizer: Tokenizer, top: int) -> None:
        self._tokenizer = tokenizer
        self._top = top

    def whole(self, said: Said) -> Json:
        """A message of the assistant."""
        is_all = not (said.calls or said.reasoning)
        message: Json = {"content": said.text if is_all else said.text or None, "refusal": None}
        if said.calls:
            message["tool_calls"] = [it.as_json() for it in said.calls]
        return {"message": {"role": "assistant", **message, **_reasoning(said)}}

    def part(self, said: Said, is_first: bool) -> Json:
        """A piece of that message; the first one says whose it is."""
        delta: Json = {"role": "assistant"} if is_first else {}
        if said.text or not said.reasoning:
            delta["content"] = said.text
        if said.calls:
            places = enumerate(said.calls)
            delta["tool_calls"] = [{"index": place, **it.as_json()} for place, it in places]
        return {"delta": {**delta, **_reasoning(said)}}

    def logprobs(self, places: Places, offset: int = 0) -> Json:
        """An object for each token; there are no offsets in it."""
        shown = token_logprobs(places, self._tokenizer, self._top)
        return {"content": shown, "refusal": None}


def token_logprobs(places: Places, tokenizer: Tokenizer, top: int) -> list[Json]:
    """An object for each token, with the `top` likely ones in its place."""

    def entry(token: int, found: Logprob) -> Json:
        text = tokenizer.decode_all([token])
        return {"token": text, "logprob": found.logprob, "bytes": list(text.encode())}

    def place(token: int, likely: dict[int, Logprob]) -> Json:
        best = sorted(likely.items(), key=lambda one: one[1].rank)[:top]
        return {**entry(token, likely[token]), "top_logprobs": [entry(*one) for one in best]}

    return [place(*one) for one in places]


def places_of(choice: Choice) -> Places:
    """Those of a delta, where log probabilities were asked for."""
    delta = choice.delta
    return list(zip(delta.token_ids, delta.logprobs, strict=True)) if delta.logprobs else []


def _reasoning(said: Said) -> Json:
    """By both of vLLM's names."""
    reasoning = said.reasoning
    return {"reasoning_content": reasoning, "reasoning": reasoning} if reasoning else {}
