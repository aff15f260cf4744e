"""How fast values are quantized, and packed values turned back."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import torch

from lm_offload.hardware.timing import typical_s
from lm_offload.quant.format import Format
from lm_offload.quant.quantize import Quantize, dequantize

SHAPE = (128, 2048)  # of a matrix


def measure_quantizing(
    quantize: Quantize, formats: Iterable[Format], budget_s: float
) -> tuple[dict[str, float], dict[str, float]]:
    """Values a second by format: quantized by `quantize`, and turned back."""
    matrix = torch.randn(SHAPE)
    works: dict[tuple[str, bool], Callable[[], object]] = {}
    for format in formats:
        packed = quantize(matrix, format, "a probe")
        works[str(format), False] = partial(dequantize, packed)
        works[str(format), True] = partial(quantize, matrix, format, "a probe")
    rates = {key: matrix.numel() / call_s for key, call_s in typical_s(works, budget_s).items()}
    return (
        {name: rate for (name, forward), rate in rates.items() if forward},
        {name: rate for (name, forward), rate in rates.items() if not forward},
    )
