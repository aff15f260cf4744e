"""From mappings, texts and numbers to the records of a profile, by the types of their fields."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Any, NoReturn, get_args, get_origin, get_type_hints

from lm_offload.errors import ConfigError
from lm_offload.hardware.attention_rates import split_key
from lm_offload.hardware.curve import Curve
from lm_offload.hardware.measured_work import OPERATIONS, THREADED_WORK
from lm_offload.hardware.quantity import AXIS, Quantity, quantity_of
from lm_offload.near_name import did_you_mean
from lm_offload.quant.format import parse_format

ANY_SIZE = 1.0  # the one point of a curve that is written as a single number


@dataclass(frozen=True)
class Place:
    """Where in a file a value stands, for messages."""

    origin: str
    keys: tuple[str, ...] = ()

    def at(self, key: object) -> Place:
        """The place of a value of this mapping."""
        return Place(self.origin, (*self.keys, str(key)))

    def refuse(self, found: str, allowed: str) -> NoReturn:
        """Raise ConfigError in one sentence."""
        what = f"{'.'.join(self.keys)} in {self.origin}" if self.keys else self.origin
        raise ConfigError(f"{what} is {found}; allowed is {allowed}.")

    def refuse_key(self, key: object, known: Iterable[str]) -> NoReturn:
        """Raise ConfigError for a key of this mapping that is none of the known ones."""
        names = tuple(known)
        self.at(key).refuse(f"not a known key{did_you_mean(key, names)}", ", ".join(names))


def default_of(item: dataclasses.Field[Any]) -> Any:
    """What a field is when it is not given; `dataclasses.MISSING` where it must be."""
    if item.default_factory is not dataclasses.MISSING:
        return item.default_factory()
    return item.default


def parse_record(kind: Any, values: object, place: Place) -> Any:
    """The dataclass `kind` with the fields of a mapping; raises ConfigError."""
    hints = get_type_hints(kind)
    given = _mapping(values, place)
    for key in given:
        if key not in hints:
            place.refuse_key(key, hints)
    parsed = {}
    for item in dataclasses.fields(kind):
        inner = place.at(item.name)
        if item.name in given:
            parsed[item.name] = _parse(item, hints[item.name], given[item.name], inner)
        elif default_of(item) is dataclasses.MISSING:
            inner.refuse("missing", _allowed(hints[item.name], item.name))
    return kind(**parsed)


def _parse(item: dataclasses.Field[Any], hint: Any, value: object, place: Place) -> Any:
    """One field; a number may be zero only where zero is its default and means none."""
    if get_origin(hint) is UnionType:  # of something and None
        return None if value is None else _parse(item, get_args(hint)[0], value, place)
    if get_origin(hint) is tuple:
        return tuple((str(key), _text(text, place)) for key, text in _mapping(value, place).items())
    if get_origin(hint) is Mapping:
        return _by_name(item.name, get_args(hint)[1], _mapping(value, place), place)
    if hint is Curve:
        return _curve(value, quantity_of(item.name), place)
    if dataclasses.is_dataclass(hint):
        return parse_record(hint, value, place)
    if hint is str:
        return _text(value, place)
    number = _number(value, quantity_of(item.name), place, may_be_zero=default_of(item) == 0)
    return _whole(number, value, place) if hint is int else number


def _mapping(value: object, place: Place) -> Mapping[Any, object]:
    return value if isinstance(value, Mapping) else place.refuse(repr(value), "a mapping of keys")


def _text(value: object, place: Place) -> str:
    return value if isinstance(value, str) else place.refuse(repr(value), "a text")


def _number(value: object, kind: Quantity, place: Place, may_be_zero: bool = False) -> float:
    try:
        number = kind.parse(value)
    except ValueError:
        place.refuse(repr(value), kind.allowed)
    if number == 0 and not may_be_zero:
        place.refuse(repr(value), f"more than zero, {kind.allowed}")
    return number


def _whole(number: float, value: object, place: Place) -> int:
    if number != int(number):
        place.refuse(repr(value), "a whole number")
    return int(number)


def _by_name(name: str, hint: Any, values: Mapping[Any, object], place: Place) -> dict[str, Any]:
    kind, parsed = quantity_of(name), {}
    for key, value in values.items():
        inner = place.at(key)
        known = _known_name(name, str(key), inner)
        if known in parsed:
            inner.refuse(f"given twice, as {known}", "each once")
        parsed[known] = (_curve if hint is Curve else _number)(value, kind, inner)
    return parsed


def _known_name(name: str, key: str, place: Place) -> str:
    """A kernel's name, or that of a format as `str(format)` gives it, with shapes of heads."""
    if name.startswith("operation"):
        return key if key in OPERATIONS else place.refuse("not known", ", ".join(OPERATIONS))
    if name.startswith("thread"):
        return key if key in THREADED_WORK else place.refuse("not known", ", ".join(THREADED_WORK))
    has_shapes = "attention" in name
    try:
        format, shape = split_key(key) if has_shapes else (key, None)
        return str(parse_format(format)) + (key[len(format) :] if shape else "")
    except (ConfigError, ValueError):
        shapes = ", or a format and shape of heads such as bf16/64x8" if has_shapes else ""
        place.refuse("not a known key", f"a format such as bf16 or int4:64{shapes}")


def _curve(value: object, kind: Quantity, place: Place) -> Curve:
    if not isinstance(value, Mapping):
        return Curve((ANY_SIZE,), (_number(value, kind, place),))
    points: dict[float, float] = {}
    for size, rate in value.items():
        at = _number(size, AXIS, place.at(size))
        if at in points:
            place.at(size).refuse("given twice", "each size once")
        points[at] = _number(rate, kind, place.at(size))
    if not points:
        place.refuse("empty", f"{kind.allowed}, or a mapping of sizes to such rates")
    return Curve(tuple(sorted(points)), tuple(points[size] for size in sorted(points)))


def _allowed(hint: Any, name: str) -> str:
    if hint is str:
        return "a text"
    is_record = dataclasses.is_dataclass(hint) and hint is not Curve
    return "a mapping of keys" if is_record else quantity_of(name).allowed
