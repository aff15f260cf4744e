"""Answers in pieces: server-sent events, one for each delta."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from lm_offload.errors import LMOffloadError
from lm_offload.server.answer_forms import Json
from lm_offload.server.answers import Head, Usage
from lm_offload.server.error_object import error_object, status_of
from lm_offload.server.replies import Choice


class ChoiceStream(StreamingResponse):
    """Sends `first` and what follows; closes `held` when it is done or the client goes away."""

    def __init__(
        self,
        first: Choice,
        rest: AsyncIterator[Choice],
        chunk: Callable[[Choice], Json | None],
        last: Callable[[Usage], Json | None],
        held: AsyncExitStack,
    ) -> None:
        super().__init__(_events(first, rest, chunk, last), media_type="text/event-stream")
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Also where the client goes before anything is sent, what is held is closed."""
        async with self._held:
            await super().__call__(scope, receive, send)


def usage_chunk(head: Head, wanted: bool) -> Callable[[Usage], Json | None]:
    """What ends a stream that shows its usage."""
    return lambda usage: head.around(choices=[], usage=usage.as_json()) if wanted else None


async def _events(
    first: Choice,
    rest: AsyncIterator[Choice],
    chunk: Callable[[Choice], Json | None],
    last: Callable[[Usage], Json | None],
) -> AsyncIterator[str]:
    usage = Usage()
    try:
        async for choice in _chain(first, rest):
            usage.add(choice)
            if (described := chunk(choice)) is not None:
                yield _event(described)
    except LMOffloadError as error:
        yield _event(error_object(status_of(error), str(error)))
    else:
        if (ending := last(usage)) is not None:
            yield _event(ending)
    yield "data: [DONE]\n\n"


async def _chain(first: Choice, rest: AsyncIterator[Choice]) -> AsyncIterator[Choice]:
    yield first
    async for choice in rest:
        yield choice


def _event(content: Any) -> str:
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"
