"""Streams of completions and chat: a chunk for each delta that has something to show."""

from __future__ import annotations

from collections.abc import Iterator

from lm_offload.errors import LMOffloadError
from lm_offload.server.answer_forms import Form, Json, Said, places_of
from lm_offload.server.bodies import StreamOptions
from lm_offload.server.error_object import error_object, status_of
from lm_offload.server.head import Head
from lm_offload.server.replies import Choice
from lm_offload.server.stream import data_event
from lm_offload.server.usage import Usage

_DONE = "data: [DONE]\n\n"


class ChunkEvents:
    """Of one answer."""

    def __init__(self, head: Head, form: Form, with_logprobs: bool, options: StreamOptions) -> None:
        self._head = head
        self._form = form
        self._with_logprobs = with_logprobs
        self._options = options
        self._usage = Usage()
        self._shown: dict[int, int] = {}  # characters of each choice that has begun

    def begin(self) -> Iterator[str]:
        """Nothing comes before the first delta."""
        yield from ()

    def add(self, choice: Choice) -> Iterator[str]:
        """The chunk of a delta, if it has something to show."""
        self._usage.add(choice)
        is_first, offset = choice.index not in self._shown, self._shown.get(choice.index, 0)
        is_shown = choice.text or choice.reasoning or choice.finish_reason
        if not (is_shown or self._with_logprobs or is_first):
            return
        self._shown[choice.index] = offset + len(choice.text)
        said = Said(choice.text, choice.calls, choice.reasoning)
        described = {
            "index": choice.index,
            **self._form.part(said, is_first),
            "logprobs": self._logprobs(choice, offset),
            "finish_reason": choice.finish_reason,
        }
        yield data_event(self._head.around(choices=[described], **self._usage_so_far()))

    def end(self) -> Iterator[str]:
        """What it took, where that was asked for."""
        if self._options.include_usage:
            yield data_event(self._head.around(choices=[], usage=self._usage.as_json()))
        yield _DONE

    def fail(self, error: LMOffloadError) -> Iterator[str]:
        """What ended it too early."""
        yield data_event(error_object(status_of(error), str(error)))
        yield _DONE

    def _logprobs(self, choice: Choice, offset: int) -> Json | None:
        return self._form.logprobs(places_of(choice), offset) if self._with_logprobs else None

    def _usage_so_far(self) -> Json:
        """Null in all chunks but the last, as OpenAI has it, unless vLLM's option is set."""
        if not self._options.include_usage:
            return {}
        shown = self._options.continuous_usage_stats
        return {"usage": self._usage.as_json() if shown else None}
