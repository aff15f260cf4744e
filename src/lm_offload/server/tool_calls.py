"""Finds calls of tools in whole texts; `json_calls.py` and others read them.

A text is either content or content and then calls, so what calls nothing that was given is content.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Sequence as Items
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

ID_LENGTH = 9  # Mistral's templates take no other
Schemas = Mapping[str, Mapping[str, Any]]  # of the arguments, by the names of functions


@dataclass(frozen=True)
class ToolCall:
    """A function to be called, its arguments as the text of a JSON object."""

    name: str
    arguments: str
    id: str = field(default_factory=lambda: uuid4().hex[:ID_LENGTH], compare=False)

    def as_json(self) -> dict[str, Any]:
        """As OpenAI writes it."""
        function = {"name": self.name, "arguments": self.arguments}
        return {"id": self.id, "type": "function", "function": function}


@dataclass(frozen=True)
class Reading:
    """What a text says beside its calls, and those."""

    content: str
    calls: tuple[ToolCall, ...] = ()


def never(text: str, schemas: Schemas) -> bool:
    """Of forms whose calls begin with a mark alone."""
    return False


@dataclass(frozen=True)
class CallForm:
    """One way to write calls.

    `read` gives all that a text consists of and raises ValueError for anything else; `may_begin`
    says whether a growing text may be calls without a mark. `needed` are marks without which a text
    cannot be read: where they are special tokens, these have to be decoded.
    """

    marks: tuple[str, ...]
    read: Callable[[str, Schemas], Iterable[ToolCall]]
    may_begin: Callable[[str, Schemas], bool] = never
    needed: tuple[str, ...] = ()


def read_calls(text: str, schemas: Schemas, forms: Items[CallForm]) -> Reading:
    """The calls of these functions; all is content where anything else is called."""
    mark = first_mark(text, marks_of(forms))
    for start in dict.fromkeys((0, mark or 0)):  # or it is within arguments
        for form in forms:
            if calls := _calls(text[start:], schemas, form):
                return Reading(text[:start].rstrip(), calls)
    return Reading(text)


def _calls(text: str, schemas: Schemas, form: CallForm) -> tuple[ToolCall, ...]:
    """All that a text consists of; none where there is anything else."""
    try:
        calls = tuple(form.read(text, schemas))
    except (ValueError, RecursionError):
        return ()
    return calls if all(call.name in schemas for call in calls) else ()


def may_be_call(begun: str, schemas: Schemas, forms: Items[CallForm]) -> bool:
    """Whether a growing text without blanks before it may be calls without a mark."""
    return any(form.may_begin(begun, schemas) for form in forms)


def first_mark(text: str, marks: Items[str]) -> int | None:
    """Where the first of these marks stands."""
    places = (text.find(mark) for mark in marks)
    return min((place for place in places if place >= 0), default=None)


def marks_of(forms: Items[CallForm]) -> list[str]:
    """What calls of these forms begin with."""
    return [mark for form in forms for mark in form.marks]
