"""What a record holds, to make one of a kind that holds more."""

from __future__ import annotations

from dataclasses import fields
from functools import cache
from typing import Any


def values_of(record: object, kind: type) -> dict[str, Any]:
    """The fields of a dataclass `kind` of a record that has them, by name."""
    return {name: getattr(record, name) for name in _names_of(kind)}


@cache
def _names_of(kind: type) -> tuple[str, ...]:
    return tuple(item.name for item in fields(kind))
