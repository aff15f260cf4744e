"""Typed reading of `config.json`: every value is checked where it is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lm_offload.errors import CheckpointError, UnsupportedModelError, shown

_REQUIRED: Any = object()
_MAX_NUMBER = 1e18


@dataclass(frozen=True)
class Fields:
    """A JSON object of a checkpoint; `null` counts as missing, as in Hugging Face configs."""

    raw: Mapping[str, Any]
    where: str = "config.json"

    def get(self, key: str, default: Any = None) -> Any:
        """The unchecked value, or the default where the key is missing or null."""
        value = self.raw.get(key)
        return default if value is None else value

    def integer(
        self, key: str, default: int = _REQUIRED, minimum: int = 1, maximum: int = 2**31 - 1
    ) -> int:
        """A whole number between `minimum` and `maximum`."""
        value = self._need(key, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.wrong(key, "an integer")
        if not minimum <= value <= maximum:
            raise self.wrong(key, f"an integer from {minimum} to {maximum}")
        return value

    def number(self, key: str, default: float = _REQUIRED, above: float = 0.0) -> float:
        """A number above `above`, and small enough that sizes made from it stay finite."""
        value = self._need(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.wrong(key, "a number")
        if not above < value < _MAX_NUMBER:
            raise self.wrong(key, f"a number above {above:g} and below {_MAX_NUMBER:g}")
        return float(value)

    def optional_number(self, key: str, default: float | None = None) -> float | None:
        """A positive number, or None where the key is there and null.

        A missing key means `default`: softcaps have one, and null switches them off.
        """
        if key in self.raw and self.raw[key] is None:
            return None
        return default if key not in self.raw else self.number(key)

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self.get(key, default)
        if not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def text(self, key: str, default: str = _REQUIRED) -> str:
        """A string."""
        value = self._need(key, default)
        if not isinstance(value, str):
            raise self.wrong(key, "a string")
        return value

    def section(self, key: str) -> Fields | None:
        """A nested object, or None where there is none (an empty one counts as none)."""
        value = self.get(key)
        if not value:
            return None
        if not isinstance(value, Mapping):
            raise self.wrong(key, "an object")
        return Fields(value, f"{self.where}, {key}")

    def numbers(self, key: str, length: int) -> tuple[float, ...]:
        """A list of `length` positive numbers."""
        values = self.get(key)
        if not isinstance(values, list) or len(values) != length:
            raise self.wrong(key, f"a list of {length} numbers")
        return tuple(Fields({key: value}, self.where).number(key) for value in values)

    def kinds(self, key: str, length: int, known: tuple[str, ...]) -> list[str]:
        """A list of `length` words, each one of the known ones."""
        values = self.get(key)
        listed = values if isinstance(values, list) else []
        if len(listed) != length or any(value not in known for value in listed):
            raise self.wrong(key, f"a list of {length} out of {known}")
        return listed

    def token_ids(self, key: str, default: tuple[int, ...] = ()) -> tuple[int, ...]:
        """One token id or a list of them, as a tuple; null means none."""
        value = self.raw.get(key, list(default))
        values = value if isinstance(value, list) else [] if value is None else [value]
        if any(isinstance(v, bool) or not isinstance(v, int) or v < 0 for v in values):
            raise self.wrong(key, "a token id or a list of token ids")
        return tuple(values)

    def must_be(self, key: str, *allowed: Any) -> None:
        """Refuse a feature that is not implemented here; a missing key is fine."""
        value = self.get(key)
        if value is not None and value not in allowed:
            raise UnsupportedModelError(
                f"{self.where} has {key}={shown(repr(value))}, supported here: "
                f"{', '.join(repr(a) for a in allowed) or 'none'}; choose another checkpoint."
            )

    def wrong(self, key: str, need: str) -> CheckpointError:
        """The error for a value that is of the wrong kind or inconsistent."""
        given = f"{key}={shown(repr(self.raw[key]))}" if key in self.raw else f"no {key}"
        return CheckpointError(
            f"{self.where} has {given}, but {need} is needed; repair it or download it again."
        )

    def _need(self, key: str, default: Any) -> Any:
        value = self.get(key, default)
        if value is _REQUIRED:
            raise self.wrong(key, "a value")
        return value
