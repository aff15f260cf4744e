"""Values of sampling parameters in the forms in which they are given, and how they are refused."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from typing import Any

from lm_offload.errors import RequestError, shown

MAX_BIAS = 1e6  # larger ones could make logits infinite


def as_number(value: Any, kind: type[int] | type[float]) -> Any:
    """The same as Python's own number, where that can hold it."""
    try:
        return kind(value)
    except OverflowError:
        return value


def as_tuple(value: Any) -> tuple[Any, ...]:
    """Several values, one, or none as a tuple; arrays and tensors as Python's numbers."""
    if value is None:
        return ()
    value = value.tolist() if hasattr(value, "tolist") else value
    several = isinstance(value, Iterable) and not isinstance(value, (str, bytes, Mapping))
    return tuple(value) if several else (value,)


def as_biases(value: Any) -> dict[int, float]:
    """Numbers by token id, whose keys may be text as in JSON; raises RequestError."""
    items = [*value.items()] if isinstance(value, Mapping) else []
    try:
        biases = {int(token): float(bias) for token, bias in items if _is_bias(token, bias)}
    except (ValueError, OverflowError):
        biases = {}
    valid = isinstance(value, Mapping) and len(biases) == len(items)
    check("logit_bias", value, valid, f"numbers up to {MAX_BIAS:g} by token id, as in {{13: -5.0}}")
    return biases


def _is_bias(token: object, bias: Any) -> bool:
    is_token = isinstance(token, str) or is_a(token, Integral)
    return is_token and is_a(bias, Real) and bool(bias <= MAX_BIAS)  # so no NaN; -inf forbids


def is_a(value: object, kind: type) -> bool:
    """Whether this is a number of that kind; a bool is none."""
    return isinstance(value, kind) and not isinstance(value, bool)


def is_finite(value: float) -> bool:
    """Whether a float can hold it, other than as infinity."""
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float holds
        return False


def check(name: str, value: object, valid: bool, allowed: str) -> None:
    """Raise RequestError where a value is not valid."""
    if not valid:
        raise RequestError(f"{name} is {shown(repr(value))}; allowed is {allowed}.")
