"""What the text of an output is held to: a JSON schema, a regex, a choice or a grammar."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lm_offload.errors import RequestError
from lm_offload.keywords import known_fields
from lm_offload.sampling.param_values import as_tuple, check
from lm_offload.sampling.reasoning_ways import WAYS

KINDS = ("json", "regex", "choice", "grammar", "json_object")
ELSEWHERE = {
    "json_schema": "it is called json here",
    "structural_tag": "a grammar says the same; give that",
}
_ANY_OBJECT = '{"type": "object"}'


@known_fields(RequestError, ELSEWHERE)
@dataclass(frozen=True)
class StructuredOutputs:
    """Exactly one of `KINDS`, and how JSON may be spaced; names as in vLLM.

    Raises RequestError for several of them or none, and for values that are none.
    """

    json: str | Mapping[str, Any] | None = None  # a JSON schema; kept as text
    regex: str | None = None  # of the whole text
    choice: Sequence[str] | None = None  # one of these texts; kept as a tuple
    grammar: str | None = None  # in Lark's syntax or llama.cpp's GBNF
    json_object: bool | None = None  # any JSON object
    disable_any_whitespace: bool = False  # JSON without spaces and new lines
    whitespace_pattern: str | None = None  # a regex of what may stand between parts of JSON
    after_reasoning: str | None = None  # written in this way, which stays free; one of `WAYS`

    def __post_init__(self) -> None:
        """Bring values into one form, and check every one."""
        self._check_number()
        if isinstance(self.json, Mapping):
            object.__setattr__(self, "json", _as_text(self.json))
        if self.choice is not None:
            object.__setattr__(self, "choice", as_tuple(self.choice))
        for name in ("regex", "grammar", "whitespace_pattern"):
            value = getattr(self, name)
            check(name, value, value is None or _is_text(value), "text")
        valid = self.json is None or _is_schema(self.json)
        check("json", self.json, valid, "a JSON schema, as text or as a dictionary")
        valid = self.choice is None or (bool(self.choice) and all(map(_is_text, self.choice)))
        check("choice", self.choice, valid, "a list of non-empty strings, one at least")
        switch = self.disable_any_whitespace
        check("disable_any_whitespace", switch, isinstance(switch, bool), "True or False")
        way = self.after_reasoning
        check("after_reasoning", way, way is None or way in WAYS, f"none, or {', '.join(WAYS)}")

    def _check_number(self) -> None:
        allowed = self.json_object in (None, True, False)
        check("json_object", self.json_object, allowed, "True or False")
        given = self._given
        if len(given) != 1:
            raise RequestError(
                f"structured_outputs has {', '.join(given) or 'none of its kinds'}; give exactly "
                f"one of {', '.join(KINDS)}."
            )

    @property
    def _given(self) -> list[str]:
        return [name for name in KINDS if getattr(self, name) not in (None, False)]

    @property
    def kind(self) -> str:
        """Which of `KINDS` it is."""
        return self._given[0]

    @property
    def schema(self) -> str | None:
        """The JSON schema, where it is one."""
        return _ANY_OBJECT if self.json_object else self.json  # type: ignore[return-value]


def _as_text(schema: Mapping[str, Any]) -> str:
    try:
        return json.dumps(dict(schema))
    except (TypeError, ValueError, RecursionError) as error:
        raise RequestError(
            f"The JSON schema cannot be written as JSON ({error}); give text, numbers, lists and "
            "dictionaries."
        ) from error


def _is_schema(text: object) -> bool:
    """Whether this is the text of a JSON object: a schema of true or false says nothing."""
    try:
        return isinstance(text, str) and isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _is_text(text: object) -> bool:
    return isinstance(text, str) and bool(text)
