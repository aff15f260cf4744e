"""Items of a response, and the events of a stream in which they come."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as Items
from dataclasses import dataclass
from uuid import uuid4

from lm_offload.server.answer_forms import Json
from lm_offload.server.tool_calls import ToolCall


@dataclass(frozen=True)
class TextKind:
    """An item that is text: OpenAI's names of it and of its one part."""

    item: str
    prefix: str  # of its id
    part: str
    fixed: Json  # what all such items say

    def part_of(self, text: str, places: Items[Json]) -> Json:
        """The part with this text."""
        more = {"annotations": [], "logprobs": [*places]} if self is MESSAGE else {}
        return {"type": self.part, "text": text, **more}

    def event_of(self, places: Items[Json]) -> Json:
        """What events of the text carry beside it."""
        return {"logprobs": [*places]} if self is MESSAGE else {}


MESSAGE = TextKind("message", "msg", "output_text", {"role": "assistant"})
REASONING = TextKind("reasoning", "rs", "reasoning_text", {"summary": []})


class TextItem:
    """One that grows, at a place of the output."""

    def __init__(self, kind: TextKind, place: int) -> None:
        self.kind = kind
        self._id = _new_id(kind.prefix)
        self._place = place
        self._texts: list[str] = []
        self._places: list[Json] = []

    def begin(self) -> Iterator[Json]:
        """The item and its part are there."""
        empty = {**self.item("in_progress"), "content": []}
        yield _added(self._place, empty)
        part = self.kind.part_of("", [])
        yield {"type": "response.content_part.added", **self._at, "part": part}

    def add(self, text: str, places: Items[Json]) -> Iterator[Json]:
        """More of it, if there is anything to show."""
        self._texts.append(text)
        self._places += places
        if text or places:
            more = self.kind.event_of(places)
            yield {"type": f"response.{self.kind.part}.delta", **self._at, "delta": text, **more}

    def end(self, status: str) -> Iterator[Json]:
        """Text, part and item are complete."""
        item = self.item(status)
        (part,) = item["content"]
        done = {"text": part["text"], **self.kind.event_of(self._places)}
        yield {"type": f"response.{self.kind.part}.done", **self._at, **done}
        yield {"type": "response.content_part.done", **self._at, "part": part}
        yield _done(self._place, item)

    def item(self, status: str) -> Json:
        """All of it so far."""
        part = self.kind.part_of("".join(self._texts), self._places)
        head = {"id": self._id, "type": self.kind.item, "status": status}
        return {**head, **self.kind.fixed, "content": [part]}

    @property
    def _at(self) -> Json:
        return {"item_id": self._id, "output_index": self._place, "content_index": 0}


def call_events(call: ToolCall, place: int) -> tuple[Json, Iterator[Json]]:
    """The item of a call, and the events in which it comes."""
    item = {
        "id": _new_id("fc"),
        "type": "function_call",
        "status": "completed",
        "call_id": call.id,
        "name": call.name,
        "arguments": call.arguments,
    }
    return item, _call_events(item, {"item_id": item["id"], "output_index": place})


def _call_events(item: Json, at: Json) -> Iterator[Json]:
    arguments, name = item["arguments"], "response.function_call_arguments"
    yield _added(at["output_index"], {**item, "status": "in_progress", "arguments": ""})
    yield {"type": f"{name}.delta", **at, "delta": arguments}
    yield {"type": f"{name}.done", **at, "name": item["name"], "arguments": arguments}
    yield _done(at["output_index"], item)


def _added(place: int, item: Json) -> Json:
    return {"type": "response.output_item.added", "output_index": place, "item": item}


def _done(place: int, item: Json) -> Json:
    return {"type": "response.output_item.done", "output_index": place, "item": item}


def _new_id(prefix: str) -> str:
    return f"{prefix}_{uuid4().hex}"
