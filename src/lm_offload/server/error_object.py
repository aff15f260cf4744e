"""Errors in OpenAI's JSON: one sentence in an `error` object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lm_offload.errors import LMOffloadError, RequestError, shown

BAD_REQUEST, FAILED = 400, 500
_KINDS = {"str", "int", "float", "bool", "dict"}  # that pydantic adds to the place of a field


def error_object(
    status: int, message: str, code: str | None = None, param: str | None = None
) -> dict[str, Any]:
    """What answers, streams and lines of a batch carry in place of choices; `param` is a field."""
    kind = "server_error" if status >= FAILED else "invalid_request_error"
    text = message.encode(errors="backslashreplace").decode()  # halves of characters can't be sent
    return {"error": {"message": text, "type": kind, "param": param, "code": code}}


def status_of(error: LMOffloadError) -> int:
    """Whose fault it is."""
    return BAD_REQUEST if isinstance(error, RequestError) else FAILED


def param_of(error: Mapping[str, Any]) -> str | None:
    """The field that one of pydantic's errors is of; none of what is no JSON."""
    if error["type"] == "json_invalid":
        return None
    return ".".join(str(part) for part in error["loc"] if not _is_kind(part)) or None


def _is_kind(part: object) -> bool:
    """Whether it names the body, or which of several types a value was compared with."""
    return isinstance(part, str) and (part in {"body", *_KINDS} or "[" in part)


def telling(errors: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Of pydantic's errors the first, or what it is within: a field of several types has one each.

    A list that was compared with text, too, is wrong where its own error is.
    """
    first, *_ = errors
    place = first["loc"][:-1]
    if place in ((), ("body",)):
        return first
    within = (error for error in errors if error["loc"][: len(place)] == place)
    return max(within, key=lambda error: len(error["loc"]))


def sentence_of(error: Mapping[str, Any]) -> str:
    """One of pydantic's errors: `temperature is 'hot': Input should be a valid number.`"""
    place = param_of(error) or "The body"
    if error["type"] == "extra_forbidden":
        return f"{place} was given, which has no effect here; leave it out."
    if error["type"] == "json_invalid":
        return f"{place} is no JSON ({error['ctx']['error']}); send an object."
    if error["type"] == "missing":
        return f"{place} is missing; give it."
    if isinstance(error.get("input"), bytes):
        return f"{place} is no JSON; send JSON, with Content-Type: application/json."
    return f"{place} is {shown(repr(error.get('input')))}: {error['msg'].rstrip('.')}."
