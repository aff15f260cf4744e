"""Rates of products by format: which of the curves that are known holds for one that is not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeVar

from lm_offload.hardware.curve import Curve
from lm_offload.quant.format import Format

Known = TypeVar("Known")

# N and K of the matrices that products are measured with: as wide as those of models that do not
# fit the cache, and of models that do.
MEMORY_SIZE, CACHED_SIZE = 3072, 512
LIKE_MXFP4 = Format("int4", 32)  # codes of four bits that are turned into bytes
LEAST_FRAC = 0.2  # of a product with square matrices, however few inputs one of others has


def curve_of(curves: Mapping[str, Curve], format: Format) -> Curve | None:
    """The curve of a format, of the same codes in groups of another size, or with exact inputs."""
    return _known_of(curves, format)


def value_of(seconds: Mapping[str, float], format: Format) -> float:
    """The same of a number; 0 where none is known."""
    return _known_of(seconds, format) or 0.0


def all_shorter(seconds: Mapping[str, float], factor: float) -> dict[str, float]:
    """Those of every format where all is so many times as fast."""
    return {name: value / factor for name, value in seconds.items()}


def with_ends(
    square_s: float, input_s: float, output_s: float, weights: float, width: int
) -> float:
    """Seconds of a row with matrices of K = `width` that have one input together.

    `square_s` with square ones, the values of whose inputs and outputs are in their rates.
    """
    if not width:
        return square_s
    values = weights / min(max(width, CACHED_SIZE), MEMORY_SIZE)  # of each, with square ones
    more_s = (width - values) * input_s + (weights / width - values) * output_s
    return max(square_s + more_s, LEAST_FRAC * square_s)


def _known_of(known: Mapping[str, Known], format: Format) -> Known | None:
    alike = (value for name, value in known.items() if _is_alike(name, format))
    found = known.get(str(format)) or next(alike, None)
    if found is None and format.int8_activations:
        return _known_of(known, format.stored)
    if found is None and format.name == "mxfp4":
        return _known_of(known, LIKE_MXFP4)
    return found


def rate_by_width(narrow: float, wide: float, width: int, cached: bool) -> float:
    """Between the rates with narrow matrices from the cache and with wide ones from memory.

    By the logarithm of K, `width`; 0: as of those that were measured. Narrow ones are never as fast
    as wide ones.
    """
    own = CACHED_SIZE if cached else MEMORY_SIZE
    share = math.log((width or own) / CACHED_SIZE) / math.log(MEMORY_SIZE / CACHED_SIZE)
    share = min(max(share, 0.0), 1.0)
    ends = (narrow, max(narrow, wide)) if cached else (min(narrow, wide), wide)
    return float(ends[0] ** (1 - share) * ends[1] ** share)


def _is_alike(name: str, format: Format) -> bool:
    return name.partition(":")[0] == format.name and name.endswith(":a8") is format.int8_activations
