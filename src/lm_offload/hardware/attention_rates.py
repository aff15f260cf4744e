"""Rates of attention by KV format and shape of the heads: their names and what lies between them.

A curve named `bf16` holds for heads of any shape; `bf16/64x8` holds for heads of 64 values of
which 8 share one KV head. More queries per KV head read each key once and compute more on it,
so seconds per byte (or per FLOP) are taken as linear in the group between two that are known.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

from lm_offload.hardware.curve import Curve

_SHAPE = re.compile(r"(\d+)x(\d+)")


class HeadShape(NamedTuple):
    """What the speed of attention depends on beside bytes and context."""

    head_dim: int
    group: int  # query heads that share a KV head


def rate_key(format: str, shape: HeadShape) -> str:
    """The name of a curve for one shape of the heads."""
    return f"{format}/{shape.head_dim}x{shape.group}"


@cache
def split_key(key: str) -> tuple[str, HeadShape | None]:
    """Format and shape of a curve's name; raises ValueError for a shape that is none."""
    format, slash, text = key.partition("/")
    match = _SHAPE.fullmatch(text)
    if slash and (match is None or 0 in (int(match[1]), int(match[2]))):
        raise ValueError(f"{text!r} is no shape of heads such as 64x8")
    return format, HeadShape(int(match[1]), int(match[2])) if match else None


def attention_rate(
    curves: Mapping[str, Curve], format: str, shape: HeadShape, context: float
) -> float | None:
    """The rate at `context` of heads of the nearest size, between groups; None if none is known.

    Beyond the largest group that is known, time grows as the group does. A format that is not
    known is as fast as one that is.
    """
    keys = [split_key(key) for key in curves]
    formats = [name for name, _ in keys]
    if format not in formats and formats:
        format = formats[0]
    shapes = [known for name, known in keys if name == format and known]
    if not shapes:
        return curves[format].at(context) if format in curves else None
    head_dim = min((s.head_dim for s in shapes), key=lambda d: abs(math.log(d / shape.head_dim)))
    costs = {
        known.group: 1 / curves[rate_key(format, known)].at(context)
        for known in shapes
        if known.head_dim == head_dim
    }
    return 1 / _cost_of_group(dict(sorted(costs.items())), shape.group)


def _cost_of_group(costs: dict[int, float], group: int) -> float:
    """Straight between known groups, as the first below them, in proportion above them."""
    groups = list(costs)
    right = bisect_left(groups, group)
    if right == 0:
        return costs[groups[0]]
    low = groups[right - 1]
    if right == len(groups):
        return costs[low] * group / low
    high = groups[right]
    return costs[low] + (costs[high] - costs[low]) * (group - low) / (high - low)
