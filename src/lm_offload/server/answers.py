"""Answers in OpenAI's JSON: whole ones and chunks of a stream."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from collections.abc import Sequence as Items
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from lm_offload.server.answer_forms import Form, Json, Places, Said
from lm_offload.server.replies import Choice


@dataclass(frozen=True)
class Head:
    """What every part of an answer begins with."""

    model: str
    kind: str  # OpenAI's `object`
    prefix: str  # of its id
    created_s: int = field(default_factory=lambda: int(time.time()))
    number: str = field(default_factory=lambda: uuid4().hex)

    def around(self, **rest: Any) -> Json:
        """An object with this head."""
        first = {"id": f"{self.prefix}-{self.number}", "object": self.kind}
        return {**first, "created": self.created_s, "model": self.model, **rest}


class Usage:
    """Tokens that an answer took, counted from its deltas."""

    def __init__(self) -> None:
        self._prompts: dict[int, tuple[int, int]] = {}  # tokens, those of them that were cached
        self._completion = 0

    def add(self, choice: Choice) -> None:
        """Count a delta."""
        delta = choice.delta
        self._prompts[choice.prompt] = delta.num_prompt_tokens, delta.num_cached_tokens
        self._completion += len(delta.token_ids)

    def as_json(self) -> Json:
        """OpenAI's `usage`."""
        prompt = sum(tokens for tokens, _ in self._prompts.values())
        return {
            "prompt_tokens": prompt,
            "completion_tokens": self._completion,
            "total_tokens": prompt + self._completion,
            "prompt_tokens_details": {
                "cached_tokens": sum(cached for _, cached in self._prompts.values())
            },
        }


def whole_answer(head: Head, form: Form, choices: Iterable[Choice], with_logprobs: bool) -> Json:
    """All deltas of an answer as one object."""
    usage, parts = Usage(), defaultdict[int, list[Choice]](list)
    for choice in choices:
        usage.add(choice)
        parts[choice.index].append(choice)
    described = [_whole(form, index, parts[index], with_logprobs) for index in sorted(parts)]
    return head.around(choices=described, usage=usage.as_json())


def _whole(form: Form, index: int, parts: Items[Choice], with_logprobs: bool) -> Json:
    places = [place for part in parts for place in _places(part)]
    return {
        "index": index,
        **form.whole(_said(parts)),
        "logprobs": form.logprobs(places) if with_logprobs else None,
        "finish_reason": parts[-1].finish_reason,
    }


def _said(parts: Items[Choice]) -> Said:
    text = "".join(part.text for part in parts)
    return Said(text, parts[-1].calls, "".join(part.reasoning for part in parts))


def chunks_of(head: Head, form: Form, with_logprobs: bool) -> Callable[[Choice], Json | None]:
    """What makes a stream's chunks, one of each delta that has something to show."""
    begun: set[int] = set()

    def chunk(choice: Choice) -> Json | None:
        is_first = choice.index not in begun
        said = _said([choice])
        is_shown = said.text or said.reasoning or choice.finish_reason
        if not (is_shown or with_logprobs or is_first):
            return None
        begun.add(choice.index)
        described = {
            "index": choice.index,
            **form.part(said, is_first),
            "logprobs": form.logprobs(_places(choice)) if with_logprobs else None,
            "finish_reason": choice.finish_reason,
        }
        return head.around(choices=[described])

    return chunk


def _places(choice: Choice) -> Places:
    delta = choice.delta
    return list(zip(delta.token_ids, delta.logprobs, strict=True)) if delta.logprobs else []
