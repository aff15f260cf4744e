"""Arguments that are written as plain text, as the values that a tool's schema wants."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

_IN_PYTHON = {"True": True, "False": False, "None": None}  # as some models write them


def as_typed(text: str, schema: Any) -> Any:
    """The value of a text by the JSON schema of its place; the text itself where it is no other.

    Where nothing is said of its type it is what JSON takes it for, else a text.
    """
    types = {*_types(schema)}
    if types == {"string"}:
        return text
    try:
        value = _value(text.strip())
    except (ValueError, RecursionError):
        return text
    return text if "string" in types and not types & _kinds(value) else value


def _value(text: str) -> Any:
    """Raises ValueError for what is no JSON; NaN is none."""
    return _IN_PYTHON[text] if text in _IN_PYTHON else json.loads(text, parse_constant=_refuse)


def _refuse(text: str) -> None:
    raise ValueError(text)


def _types(schema: Any) -> Iterator[str]:
    """The types that a schema names, also in its alternatives; clients may write anything."""
    if not isinstance(schema, dict):
        return
    named = schema.get("type")
    yield from (it for it in [named, *_items(named)] if isinstance(it, str))
    for key in ("anyOf", "oneOf", "allOf"):
        for one in _items(schema.get(key)):
            yield from _types(one)
    if "const" in schema:
        yield from _kinds(schema["const"])
    for one in _items(schema.get("enum")):
        yield from _kinds(one)


def _items(given: Any) -> list[Any]:
    return given if isinstance(given, list) else []


def _kinds(value: Any) -> set[str]:
    """What JSON schemas call the type of a value."""
    if isinstance(value, bool):
        return {"boolean"}
    if isinstance(value, int | float):
        whole = isinstance(value, int) or value.is_integer()
        return {"number", "integer"} if whole else {"number"}
    names = {str: "string", list: "array", dict: "object", type(None): "null"}
    return {names[type(value)]}
