"""From a request's prompts to the deltas of its choices, as the event loop sees them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from collections.abc import Sequence as Items
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

from lm_offload.engine.open_run import Delta
from lm_offload.errors import LMOffloadError, StorageError
from lm_offload.sampling import SamplingParams
from lm_offload.server.tool_calls import ToolCall
from lm_offload.server.worker import Event, MakePrompt, Ticket, Worker

T = TypeVar("T")


@dataclass(frozen=True)
class Choice:
    """A delta of the answer's choice number `index`: its tokens, and what is shown of them."""

    index: int
    prompt: int
    delta: Delta
    text: str
    calls: tuple[ToolCall, ...] = ()  # of tools, in place of text
    reasoning: str = ""  # before the text

    @property
    def finish_reason(self) -> str | None:
        """As OpenAI names it."""
        return "tool_calls" if self.calls else self.delta.finish_reason


@asynccontextmanager
async def choices_of(
    worker: Worker, prompts: Items[MakePrompt], params: SamplingParams
) -> AsyncIterator[AsyncIterator[Choice]]:
    """The deltas of all prompts as they come; leaving the block cancels what is unfinished."""
    loop = asyncio.get_running_loop()
    events: asyncio.Queue[tuple[int, Event]] = asyncio.Queue()

    def deliver_to(prompt: int) -> Callable[[Event], None]:
        def deliver(event: Event) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody listens any more
                loop.call_soon_threadsafe(events.put_nowait, (prompt, event))

        return deliver

    tickets = [Ticket(make, params, deliver_to(index)) for index, make in enumerate(prompts)]
    worker.submit(tickets)
    try:
        yield _until_finished(events, len(tickets), params.n)
    finally:
        worker.cancel(tickets)


async def _until_finished(
    events: asyncio.Queue[tuple[int, Event]], prompts: int, n: int
) -> AsyncIterator[Choice]:
    """Raises the LMOffloadError that ended any of them."""
    unfinished = prompts * n
    while unfinished > 0:
        prompt, event = await events.get()
        if isinstance(event, LMOffloadError):
            raise event
        if event.error is not None:
            raise StorageError(event.error)
        unfinished -= event.finish_reason is not None
        yield Choice(prompt * n + event.completion, prompt, event, event.text)


class ClientGone(Exception):
    """Whoever asked has closed the connection."""


async def unless_gone(work: Awaitable[T], gone: Awaitable[None]) -> T:
    """The result of `work`, which ends if `gone` does first; raises ClientGone then."""
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(gone)
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGone
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task
