"""Errors of routes as OpenAI's clients expect them: a status and an `error` object."""

from __future__ import annotations

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from lm_offload.errors import LMOffloadError
from lm_offload.server.error_object import (
    BAD_REQUEST,
    error_object,
    param_of,
    sentence_of,
    status_of,
    telling,
)
from lm_offload.server.replies import ClientGone

UNAUTHORIZED, NOT_FOUND, TOO_MANY = 401, 404, 429
_CLIENT_GONE = 499  # nobody reads it; logs do


class Refused(Exception):
    """A request that is not begun."""

    def __init__(self, status: int, message: str, code: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


def add_handlers(app: FastAPI) -> None:
    """Let every error of a route become an answer."""

    @app.exception_handler(LMOffloadError)
    def ours(request: Request, error: LMOffloadError) -> Response:
        return _answer(status_of(error), str(error))

    @app.exception_handler(Refused)
    def refused(request: Request, error: Refused) -> Response:
        return _answer(error.status, str(error), error.code)

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> Response:
        found = telling(error.errors())
        return _answer(BAD_REQUEST, sentence_of(found), param=param_of(found))

    @app.exception_handler(HTTPException)
    def no_route(request: Request, error: HTTPException) -> Response:
        place = f"{request.method} {request.url.path}"
        return _answer(error.status_code, f"{place}: {error.detail}; see GET /openapi.json.")

    @app.exception_handler(ClientGone)
    def gone(request: Request, error: ClientGone) -> Response:
        return Response(status_code=_CLIENT_GONE)


def _answer(
    status: int, message: str, code: str | None = None, param: str | None = None
) -> Response:
    return JSONResponse(error_object(status, message, code, param), status)
