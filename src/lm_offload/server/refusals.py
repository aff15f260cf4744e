"""Errors as OpenAI's clients expect them: a status, and one sentence in an `error` object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from lm_offload.errors import LMOffloadError, RequestError
from lm_offload.server.replies import ClientGone

BAD_REQUEST, UNAUTHORIZED, NOT_FOUND, TOO_MANY, FAILED = 400, 401, 404, 429, 500
_CLIENT_GONE = 499  # nobody reads it; logs do


class Refused(Exception):
    """A request that is not begun."""

    def __init__(self, status: int, message: str, code: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


def error_object(status: int, message: str, code: str | None = None) -> dict[str, Any]:
    """OpenAI's error, which streams carry, too."""
    kind = "server_error" if status >= FAILED else "invalid_request_error"
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def status_of(error: LMOffloadError) -> int:
    """Whose fault it is."""
    return BAD_REQUEST if isinstance(error, RequestError) else FAILED


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
        return _answer(BAD_REQUEST, _sentence(error.errors()[0]))

    @app.exception_handler(HTTPException)
    def no_route(request: Request, error: HTTPException) -> Response:
        place = f"{request.method} {request.url.path}"
        return _answer(error.status_code, f"{place}: {error.detail}; see GET /openapi.json.")

    @app.exception_handler(ClientGone)
    def gone(request: Request, error: ClientGone) -> Response:
        return Response(status_code=_CLIENT_GONE)


def _answer(status: int, message: str, code: str | None = None) -> Response:
    return JSONResponse(error_object(status, message, code), status)


def _sentence(error: Mapping[str, Any]) -> str:
    """`temperature is 'hot': Input should be a valid number.`"""
    place = ".".join(str(part) for part in error["loc"] if part != "body") or "The body"
    if error["type"] == "extra_forbidden":
        return f"{place} was given, which has no effect here; leave it out."
    if error["type"] == "missing":
        return f"{place} is missing; give it."
    given = repr(error.get("input"))
    shown = given if len(given) <= 60 else f"{given[:60]}..."
    return f"{place} is {shown}: {error['msg'].rstrip('.')}."
