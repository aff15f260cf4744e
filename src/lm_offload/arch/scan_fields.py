"""The numbers of state space layers in a config, under whatever keys a model type has them."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from lm_offload.arch.fields import Fields
from lm_offload.arch.recurrent import MOST_KEY_DIM, MOST_TAPS

NO_LIMITS = (0.0, math.inf)  # of steps
_INFINITY = {"__float__": "Infinity"}  # as transformers writes it in JSON
_ENDLESS = 1e18  # no step is as long


class Keys(NamedTuple):
    """What a model type calls them, and what it means by those that are left out."""

    heads: tuple[str, int]
    groups: tuple[str, int]
    key_dim: tuple[str, int]
    taps: tuple[str, int]


class Sizes(NamedTuple):
    """See `RecurrentShape`."""

    key_heads: int
    heads: int
    key_dim: int
    taps: int


def scan_sizes(fields: Fields, keys: Keys) -> Sizes:
    """Groups of heads, heads, channels of a key and taps of the convolution."""
    heads = fields.integer(*keys.heads)
    groups = fields.integer(*keys.groups)
    if heads % groups:
        raise fields.wrong(keys.groups[0], f"a divisor of {heads} heads")
    return Sizes(
        key_heads=groups,
        heads=heads,
        key_dim=fields.integer(*keys.key_dim, maximum=MOST_KEY_DIM),
        taps=fields.integer(*keys.taps, minimum=2, maximum=MOST_TAPS),
    )


def step_limits(fields: Fields, key: str) -> tuple[float, float]:
    """The least and the most that a step may be; none where the key is missing."""
    given = fields.get(key)
    if given is None:
        return NO_LIMITS
    found = [_number(value) for value in given] if isinstance(given, list) else []
    least, most = found if len(found) == 2 else (math.nan, math.nan)
    if not 0 <= least < most:
        raise fields.wrong(key, "a list of two numbers from 0 on, the smaller one first")
    return least, most


def _number(value: Any) -> float:
    if value == _INFINITY:
        return math.inf
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return math.nan
    return math.inf if value > _ENDLESS else float(value)
