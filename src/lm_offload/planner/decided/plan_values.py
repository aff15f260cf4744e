"""The values of a plan's text: parsers that refuse what cannot be, and the same values as text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, get_args

from lm_offload.device_plan import AttentionOn
from lm_offload.errors import ConfigError
from lm_offload.hardware.profile_fields import Place
from lm_offload.plan import ThreadPlan
from lm_offload.quant.format import parse_format
from lm_offload.units import KIB, MIB, parse_size

Parser = Callable[[object, Place], Any]
Parsers = Mapping[str, Parser]


def parsed_record(
    values: object, place: Place, parsers: Parsers, optional: frozenset[str] = frozenset()
) -> dict[str, Any]:
    """Every key of `parsers` but some of the `optional` ones, and no other."""
    if not isinstance(values, Mapping):
        place.refuse(repr(values), f"a mapping with the keys {', '.join(parsers)}")
    for key in values:
        if key not in parsers:
            place.refuse_key(key, parsers)
    for key in parsers:
        if key not in values and key not in optional:
            place.at(key).refuse("missing", "a plan that has it")
    return {
        key: parse(values[key], place.at(key)) for key, parse in parsers.items() if key in values
    }


def plain_record(values: Mapping[str, Any], parsers: Parsers) -> dict[str, Any]:
    """Values as YAML writes them; what is None is left out."""
    return {
        name: _plain(value, parsers[name]) for name, value in values.items() if value is not None
    }


def _plain(value: Any, parser: Parser) -> Any:
    if isinstance(value, tuple):
        return value[0] if parser is one_or_more and len(value) == 1 else list(value)
    if isinstance(value, ThreadPlan):
        return dict(vars(value))
    return _size_text(value) if parser in (size, size_or_none) else value


def _size_text(size_bytes: int) -> str | int:
    """The same number of bytes in the largest unit that keeps it whole."""
    for factor, unit in ((MIB, "MiB"), (KIB, "KiB")):
        if size_bytes and size_bytes % factor == 0:
            return f"{size_bytes // factor}{unit}"
    return size_bytes


def size_or_none(value: object, place: Place) -> int:
    """Bytes, 0 allowed."""
    try:
        return parse_size(str(value))
    except ConfigError:
        place.refuse(repr(value), "a size such as 66MiB")


def size(value: object, place: Place) -> int:
    """Bytes, more than none."""
    return size_or_none(value, place) or place.refuse(repr(value), "a size above zero")


def count_or_none(value: object, place: Place) -> int:
    """A whole number, 0 allowed."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        place.refuse(repr(value), "a whole number, not below zero")
    return value


def count(value: object, place: Place) -> int:
    """A whole number above zero."""
    return count_or_none(value, place) or place.refuse(repr(value), "a whole number above zero")


def flag(value: object, place: Place) -> bool:
    """True or false."""
    return value if isinstance(value, bool) else place.refuse(repr(value), "true or false")


def text(value: object, place: Place) -> str:
    """A name."""
    return value if isinstance(value, str) else place.refuse(repr(value), "a name")


def attention(value: object, place: Place) -> AttentionOn:
    """Where attention is computed."""
    for allowed in get_args(AttentionOn):
        if value == allowed:
            return allowed  # type: ignore[no-any-return]
    place.refuse(repr(value), "device, cpu or both")


def format_name(value: object, place: Place) -> str:
    """A format as users write it."""
    try:
        return str(parse_format(str(value)))
    except ConfigError as error:
        raise ConfigError(f"{place.keys[-1]} in {place.origin}: {error}") from error


def units(value: object, place: Place) -> tuple[str, ...]:
    """Names of units."""
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        place.refuse(repr(value), "a list of units such as [embed, layers.0.mlp]")
    return tuple(value)


def one_or_more(value: object, place: Place) -> tuple[str, ...]:
    """Names of units, or the name of one."""
    return units([value] if isinstance(value, str) else value, place)


def layers(value: object, place: Place) -> tuple[int, ...]:
    """Numbers of layers."""
    if not isinstance(value, list):
        place.refuse(repr(value), "a list of layers such as [1, 3]")
    return tuple(count_or_none(layer, place) for layer in value)


def threads(value: object, place: Place) -> ThreadPlan:
    """Threads of each kind of task."""
    names = [item.name for item in fields(ThreadPlan)]
    if not isinstance(value, Mapping) or set(value) != set(names):
        place.refuse(repr(value), f"a mapping of {', '.join(names)} to whole numbers")
    return ThreadPlan(**{name: count(value[name], place.at(name)) for name in names})
