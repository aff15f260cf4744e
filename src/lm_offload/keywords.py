"""Keywords that a constructor has not are refused in a sentence, not by Python's TypeError."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from inspect import signature
from typing import Any, ParamSpec, TypeVar

from lm_offload.errors import LMOffloadError
from lm_offload.near_name import did_you_mean

P = ParamSpec("P")
T = TypeVar("T")
Class = TypeVar("Class", bound=type)
Error = type[LMOffloadError]


def known_keywords(
    owner: str, error: Error, elsewhere: Mapping[str, str]
) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Decorates a constructor, which raises `error` for other keywords than its own.

    `elsewhere` says of names that other libraries have what to do here.
    """

    def decorated(construct: Callable[P, T]) -> Callable[P, T]:
        known = list(signature(construct).parameters)[1:]  # without self

        @wraps(construct)
        def checked(*values: P.args, **given: P.kwargs) -> T:
            if sentence := _refusal(owner, given, known, elsewhere):
                raise error(sentence)
            return construct(*values, **given)

        return checked

    return decorated


def known_fields(error: Error, elsewhere: Mapping[str, str]) -> Callable[[Class], Class]:
    """Decorates a dataclass in the same way."""

    def decorated(made: Class) -> Class:
        checked: Any = known_keywords(made.__name__, error, elsewhere)
        made.__init__ = checked(made.__init__)  # type: ignore[misc]
        return made

    return decorated


def _refusal(
    owner: str, given: Iterable[str], known: list[str], elsewhere: Mapping[str, str]
) -> str | None:
    """A sentence on the first keyword of these that is not known, None where all are."""
    name = next((one for one in given if one not in known), None)
    if name is None:
        return None
    if name in elsewhere:
        return f"{owner} has no {name}: {elsewhere[name]}."
    return f"{owner} has no {name}{did_you_mean(name, known)}; it takes {', '.join(known)}."
