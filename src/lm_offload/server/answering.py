"""Questions by HTTP, answered whole or as a stream; who goes away is no longer served."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

from fastapi import Request

from lm_offload.errors import RequestError
from lm_offload.server.answer_forms import Json
from lm_offload.server.questions import Question
from lm_offload.server.refusals import TOO_MANY, Refused
from lm_offload.server.replies import Choice, choices_of, unless_gone
from lm_offload.server.stream import ChoiceStream
from lm_offload.server.worker import Worker


async def answer(worker: Worker, request: Request, question: Question) -> Json:
    """All of it at once; raises what ended it."""
    _check_room(worker, question)
    async with choices_of(worker, question.prompts, question.params) as choices:
        found = await unless_gone(_all(choices), _disconnected(request))
    return question.answer.whole(map(question.reader(), found))


async def stream(worker: Worker, request: Request, question: Question) -> ChoiceStream:
    """Piece by piece; what is wrong with the question is raised before anything is sent."""
    _check_room(worker, question)
    async with AsyncExitStack() as held:
        opened = choices_of(worker, question.prompts, question.params)
        choices = await held.enter_async_context(opened)
        first = await unless_gone(anext(choices), _disconnected(request))
        events = question.answer.events()
        return ChoiceStream(first, choices, question.reader(), events, held.pop_all())


async def _all(choices: AsyncIterator[Choice]) -> list[Choice]:
    return [choice async for choice in choices]


async def _disconnected(request: Request) -> None:
    """Ends when the client has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _check_room(worker: Worker, question: Question) -> None:
    count = len(question.prompts)
    if count > worker.most:
        raise RequestError(
            f"{count} prompts were given, {worker.most} may be under way at once; send them in "
            "several requests, or raise --max-waiting."
        )
    if not worker.has_room(count):
        raise Refused(TOO_MANY, "Too many requests wait; send this one again later.", "overloaded")
