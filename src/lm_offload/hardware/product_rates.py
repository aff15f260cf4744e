"""Rates of products by format: which of the curves that are known holds for one that is not."""

from __future__ import annotations

from collections.abc import Mapping

from lm_offload.hardware.curve import Curve
from lm_offload.quant.format import Format


def curve_of(curves: Mapping[str, Curve], format: Format) -> Curve | None:
    """The curve of a format, of the same codes in groups of another size, or with exact inputs."""
    alike = (curve for name, curve in curves.items() if _is_alike(name, format))
    found = curves.get(str(format)) or next(alike, None)
    if found is None and format.int8_activations:
        return curve_of(curves, format.stored)
    return found


def _is_alike(name: str, format: Format) -> bool:
    return name.partition(":")[0] == format.name and name.endswith(":a8") is format.int8_activations
