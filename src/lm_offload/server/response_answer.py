"""Answers of `/v1/responses`: an object with items, whole or as it grows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Sequence as Items
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from lm_offload.errors import LMOffloadError, RequestError
from lm_offload.server.answer_forms import Json, Places, places_of
from lm_offload.server.replies import Choice
from lm_offload.server.response_parts import MESSAGE, REASONING, TextItem, TextKind, call_events
from lm_offload.server.stream import Events, named_event
from lm_offload.server.usage import Usage

ShowPlaces = Callable[[Places], list[Json]]


@dataclass(frozen=True)
class ResponseAnswer:
    """`echo` is what it repeats of its request."""

    echo: Json
    show_places: ShowPlaces
    number: str = field(default_factory=lambda: f"resp_{uuid4().hex}")
    created_s: int = field(default_factory=lambda: int(time.time()))

    def whole(self, choices: Iterable[Choice]) -> Json:
        """What a stream of them ends with."""
        growing = GrowingResponse(self)
        for choice in choices:
            for _ in growing.add(choice):
                pass
        return growing.ended()

    def events(self) -> Events:
        """Named events, numbered."""
        return ResponseEvents(GrowingResponse(self))

    def response(self, status: str, output: Items[Json], **more: Any) -> Json:
        """The object."""
        head = {"id": self.number, "object": "response", "created_at": self.created_s}
        open_fields = {"error": None, "incomplete_details": None, "usage": None}
        return {**head, "status": status, **self.echo, **open_fields, "output": [*output], **more}


class GrowingResponse:
    """The items of an answer as its deltas come."""

    def __init__(self, answer: ResponseAnswer) -> None:
        self._answer = answer
        self._usage = Usage()
        self._output: list[Json] = []  # items that are complete
        self._open: TextItem | None = None
        self._is_cut_off = False

    def begun(self) -> Json:
        """The answer before its first delta."""
        return self._answer.response("in_progress", ())

    def add(self, choice: Choice) -> Iterator[Json]:
        """What a delta adds."""
        self._usage.add(choice)
        if choice.reasoning:
            yield from self._text(REASONING, choice.reasoning, [])
        places = self._answer.show_places(places_of(choice))
        if choice.text or places:
            yield from self._text(MESSAGE, choice.text, places)
        if choice.finish_reason is None:
            return
        self._is_cut_off = choice.finish_reason == "length"
        if not (self._open or self._output or choice.calls):
            yield from self._text(MESSAGE, "", [])  # an answer has a message, if an empty one
        yield from self._close("incomplete" if self._is_cut_off else "completed")
        for call in choice.calls:
            item, events = call_events(call, len(self._output))
            self._output.append(item)
            yield from events

    def ended(self) -> Json:
        """The answer after its last delta."""
        usage = self._usage.of_response()
        if not self._is_cut_off:
            return self._answer.response("completed", self._output, usage=usage)
        why = {"reason": "max_output_tokens"}
        return self._answer.response(
            "incomplete", self._output, usage=usage, incomplete_details=why
        )

    def failed(self, error: LMOffloadError) -> Json:
        """The answer where an error ended it."""
        code = "invalid_prompt" if isinstance(error, RequestError) else "server_error"
        described = {"code": code, "message": str(error)}
        return self._answer.response("failed", self._output, error=described)

    def _text(self, kind: TextKind, text: str, places: list[Json]) -> Iterator[Json]:
        if self._open is None or self._open.kind is not kind:
            yield from self._close("completed")
            self._open = TextItem(kind, len(self._output))
            yield from self._open.begin()
        yield from self._open.add(text, places)

    def _close(self, status: str) -> Iterator[Json]:
        if self._open is not None:
            yield from self._open.end(status)
            self._output.append(self._open.item(status))
            self._open = None


class ResponseEvents:
    """The same as a stream."""

    def __init__(self, growing: GrowingResponse) -> None:
        self._growing = growing
        self._count = 0

    def begin(self) -> Iterator[str]:
        """It is made."""
        for name in ("response.created", "response.in_progress"):
            yield self._event({"type": name, "response": self._growing.begun()})

    def add(self, choice: Choice) -> Iterator[str]:
        """Items that begin, grow and end."""
        yield from map(self._event, self._growing.add(choice))

    def end(self) -> Iterator[str]:
        """All of it."""
        response = self._growing.ended()
        yield self._event({"type": f"response.{response['status']}", "response": response})

    def fail(self, error: LMOffloadError) -> Iterator[str]:
        """What there is of it, and why it ended."""
        yield self._event({"type": "response.failed", "response": self._growing.failed(error)})

    def _event(self, content: Json) -> str:
        numbered = {**content, "sequence_number": self._count}
        self._count += 1
        return named_event(content["type"], numbered)
