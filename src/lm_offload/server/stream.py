"""Answers in pieces, as server-sent events."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any, Protocol

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from lm_offload.errors import LMOffloadError
from lm_offload.server.replies import Choice


class Events(Protocol):
    """What a stream sends, each event as its text; `end` or `fail` comes last."""

    def begin(self) -> Iterator[str]:
        """Before the first delta."""

    def add(self, choice: Choice) -> Iterator[str]:
        """Of a delta."""

    def end(self) -> Iterator[str]:
        """After the last one."""

    def fail(self, error: LMOffloadError) -> Iterator[str]:
        """After an error."""


class ChoiceStream(StreamingResponse):
    """Sends `first` and what follows; closes `held` when it is done or the client goes away."""

    def __init__(
        self,
        first: Choice,
        rest: AsyncIterator[Choice],
        read: Callable[[Choice], Choice],
        events: Events,
        held: AsyncExitStack,
    ) -> None:
        super().__init__(_texts(first, rest, read, events), media_type="text/event-stream")
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Also where the client goes before anything is sent, what is held is closed."""
        async with self._held:
            await super().__call__(scope, receive, send)


async def _texts(
    first: Choice,
    rest: AsyncIterator[Choice],
    read: Callable[[Choice], Choice],
    events: Events,
) -> AsyncIterator[str]:
    try:
        for text in (*events.begin(), *events.add(read(first))):
            yield text
        async for choice in rest:
            for text in events.add(read(choice)):
                yield text
    except LMOffloadError as error:
        ending = events.fail(error)
    else:
        ending = events.end()
    for text in ending:
        yield text


def data_event(content: Any) -> str:
    """An event without a name."""
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"


def named_event(name: str, content: Any) -> str:
    """An event with one."""
    return f"event: {name}\n{data_event(content)}"
