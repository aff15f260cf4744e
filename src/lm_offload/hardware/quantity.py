"""Numbers with units as people write them: 300GB/s, 65TFLOP/s, 16GiB, 10us, 80%, 1e9."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from lm_offload.errors import ConfigError
from lm_offload.units import parse_size

_NUMBER = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(\D*?)\s*")
_DECIMAL = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
_BINARY = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40}


def _with_prefixes(names: Iterable[str], prefixes: Mapping[str, float]) -> dict[str, float]:
    return {prefix + name: factor for name in names for prefix, factor in prefixes.items()}


@dataclass(frozen=True)
class Quantity:
    """One kind of number: how to say what is allowed, its units, its largest value."""

    allowed: str
    units: Mapping[str, float] = field(default_factory=dict)  # to factors; Gb/s is not GB/s
    largest: float = 1e30

    def parse(self, value: object) -> float:
        """The number, 0 to `largest`, in a number or text; raises ValueError for all else."""
        number = _number(value, self.units) if isinstance(value, str) else _plain(value)
        if not 0 <= number <= self.largest:
            raise ValueError(value)
        return number


class SizeQuantity(Quantity):
    """Bytes or counts, with the units that every option for a size takes."""

    def parse(self, value: object) -> float:
        """See `Quantity.parse`."""
        try:
            return super().parse(value)
        except ValueError:
            return super().parse(_size(value))


def _plain(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(value)
    return float(value)


def _number(text: str, units: Mapping[str, float]) -> float:
    match = _NUMBER.fullmatch(text)
    if match is None or (match[2] and match[2] not in units):
        raise ValueError(text)
    return float(match[1]) * (units[match[2]] if match[2] else 1.0)


def _size(value: object) -> int:
    try:
        return parse_size(str(value))
    except ConfigError as error:
        raise ValueError(value) from error


_BYTES = SizeQuantity("a size such as 16GiB or 16e9")
_BANDWIDTH = Quantity(
    "a rate such as 300GB/s, 2.6GiB/s or 3e11", _with_prefixes(["B/s"], {**_DECIMAL, **_BINARY})
)
_FLOPS = Quantity(
    "a rate such as 65TFLOP/s or 6.5e13",
    _with_prefixes(["FLOP/s", "FLOPs/s", "FLOPS"], _DECIMAL),
)
_VALUES = Quantity("values per second such as 2G/s or 2e9", _with_prefixes(["/s"], _DECIMAL))
_SECONDS = Quantity("seconds such as 10us or 1e-5", {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9})
_FRACTION = Quantity("a share such as 0.9 or 90%", {"%": 0.01}, largest=1.0)
_FACTOR = Quantity("a factor such as 1.9")
_COUNT = Quantity("a whole number")

_BY_SUFFIX = (
    ("bytes_per_s", _BANDWIDTH),
    ("values_per_s", _VALUES),
    ("flops", _FLOPS),
    ("bytes", _BYTES),
    ("frac", _FRACTION),
    ("speedup", _FACTOR),
    ("_s", _SECONDS),
)
AXIS = SizeQuantity("a size such as 64, 4k or 1MiB")  # of a curve: rows, tokens or bytes


def quantity_of(name: str) -> Quantity:
    """The kind of number that a field holds, by the unit at the end of its name."""
    return next((kind for suffix, kind in _BY_SUFFIX if name.endswith(suffix)), _COUNT)
