"""The routes: OpenAI's completions, chat and responses, the model's name, health and metrics."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.responses import PlainTextResponse

from lm_offload import __version__
from lm_offload.server.answer_forms import Json
from lm_offload.server.answering import answer, stream
from lm_offload.server.bodies import Body, ChatBody, CompletionBody
from lm_offload.server.body_limit import BodyLimit
from lm_offload.server.metrics import Metrics
from lm_offload.server.parsers import Parsers
from lm_offload.server.questions import Question, of_chat, of_completion, of_response
from lm_offload.server.refusals import NOT_FOUND, UNAUTHORIZED, Refused, add_handlers
from lm_offload.server.response_body import ResponseBody
from lm_offload.server.tokens import DetokenizeBody, TokenizeBody, detokenized, tokenized
from lm_offload.server.worker import Worker

B = TypeVar("B", bound=Body)


@dataclass(frozen=True)
class Server:
    """What the routes work with; without an `api_key` anybody may ask."""

    worker: Worker
    metrics: Metrics
    model: str
    context_len: int
    parsers: Parsers
    api_key: str | None = None


def make_app(server: Server) -> FastAPI:
    """The application."""
    app = FastAPI(title="LM-Offload", docs_url=None, redoc_url=None)
    add_handlers(app)
    app.add_middleware(BodyLimit)
    app.include_router(_open_routes(server))
    for routes in (_model_routes(server), _token_routes(server)):
        app.include_router(routes, dependencies=[Depends(_key_check(server.api_key))])
    return app


def _open_routes(server: Server) -> APIRouter:
    routes = APIRouter()

    @routes.get("/health")
    async def health() -> Response:
        return Response(status_code=200 if server.worker.is_open else 503)

    @routes.get("/ping")
    @routes.post("/ping")
    async def ping() -> Response:
        return await health()

    @routes.get("/version")
    async def version() -> Json:
        return {"version": __version__}

    @routes.get("/metrics")
    async def metrics() -> Response:
        return PlainTextResponse(server.metrics.text())

    return routes


def _model_routes(server: Server) -> APIRouter:
    routes, tokenizer = APIRouter(prefix="/v1"), server.worker.llm.tokenizer
    described = {
        "id": server.model,
        "object": "model",
        "created": int(time.time()),
        "owned_by": "lm-offload",
        "max_model_len": server.context_len,
    }

    @routes.get("/models")
    async def models() -> Json:
        return {"object": "list", "data": [described]}

    @routes.get("/models/{name:path}")
    async def model(name: str) -> Json:
        _check_model(server, name)
        return described

    @routes.post("/completions", response_model=None)
    async def completions(body: CompletionBody, request: Request) -> Response | Json:
        question = of_completion(_named(server, body), tokenizer)
        return await _answer(server, request, body, question)

    @routes.post("/chat/completions", response_model=None)
    async def chat(body: ChatBody, request: Request) -> Response | Json:
        question = of_chat(_named(server, body), tokenizer, server.parsers)
        return await _answer(server, request, body, question)

    @routes.post("/responses", response_model=None)
    async def responses(body: ResponseBody, request: Request) -> Response | Json:
        question = of_response(_named(server, body), tokenizer, server.parsers)
        return await _answer(server, request, body, question)

    return routes


def _token_routes(server: Server) -> APIRouter:
    routes, tokenizer = APIRouter(), server.worker.llm.tokenizer

    @routes.post("/tokenize")
    async def tokenize(body: TokenizeBody) -> Json:
        _check_model(server, body.model or server.model)
        found = server.worker.ask(partial(tokenized, body, tokenizer, server.context_len))
        return await asyncio.wrap_future(found)

    @routes.post("/detokenize")
    async def detokenize(body: DetokenizeBody) -> Json:
        _check_model(server, body.model or server.model)
        return await asyncio.wrap_future(server.worker.ask(partial(detokenized, body, tokenizer)))

    return routes


async def _answer(
    server: Server, request: Request, body: Body, question: Question
) -> Response | Json:
    _check_model(server, question.model)
    if body.stream:
        return await stream(server.worker, request, question)
    return await answer(server.worker, request, question)


def _named(server: Server, body: B) -> B:
    """With this server's model where a request names none."""
    return body if body.model else body.model_copy(update={"model": server.model})


def _check_model(server: Server, name: str) -> None:
    if name != server.model:
        sentence = f"The model {name!r} was asked for; this server has {server.model!r}."
        raise Refused(NOT_FOUND, sentence, "model_not_found")


def _key_check(api_key: str | None) -> Callable[[Request], None]:
    def check(request: Request) -> None:
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if api_key is not None and not hmac.compare_digest(given.encode(), api_key.encode()):
            raise Refused(
                UNAUTHORIZED,
                "The API key is missing or wrong; give the server's.",
                "invalid_api_key",
            )

    return check
