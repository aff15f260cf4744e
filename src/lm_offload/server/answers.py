"""Whole answers in OpenAI's JSON, and what makes streams of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import Protocol

from lm_offload.server.answer_forms import Form, Json, Said, places_of
from lm_offload.server.bodies import StreamOptions
from lm_offload.server.chunks import ChunkEvents
from lm_offload.server.head import Head
from lm_offload.server.replies import Choice
from lm_offload.server.stream import Events
from lm_offload.server.usage import Usage


class Answer(Protocol):
    """How the deltas of an answer are shown."""

    def whole(self, choices: Iterable[Choice]) -> Json:
        """All of them as one object."""

    def events(self) -> Events:
        """What makes a stream of them."""


@dataclass(frozen=True)
class ChoicesAnswer:
    """Of completions and chat."""

    head: Head
    form: Form
    with_logprobs: bool
    options: StreamOptions

    def whole(self, choices: Iterable[Choice]) -> Json:
        """`choices` in their order, and `usage`."""
        usage, parts = Usage(), defaultdict[int, list[Choice]](list)
        for choice in choices:
            usage.add(choice)
            parts[choice.index].append(choice)
        described = [self._whole(index, parts[index]) for index in sorted(parts)]
        return self.head.around(choices=described, usage=usage.as_json())

    def events(self) -> Events:
        """A chunk for each delta."""
        return ChunkEvents(self.head, self.form, self.with_logprobs, self.options)

    def _whole(self, index: int, parts: Items[Choice]) -> Json:
        places = [place for part in parts for place in places_of(part)]
        return {
            "index": index,
            **self.form.whole(_said(parts)),
            "logprobs": self.form.logprobs(places) if self.with_logprobs else None,
            "finish_reason": parts[-1].finish_reason,
        }


def _said(parts: Items[Choice]) -> Said:
    text = "".join(part.text for part in parts)
    return Said(text, parts[-1].calls, "".join(part.reasoning for part in parts))
