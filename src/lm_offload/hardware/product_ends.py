"""What products take for each value of their inputs and outputs, whatever their FLOPs.

Inputs are rounded or put in order once for all N outputs, sums of lanes are added up once for all
K inputs. Matrices of four times the outputs, or the inputs, tell the two apart. Smaller ones would
not: their chunks leave threads without work.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import NamedTuple

from lm_offload.hardware.product_probe import shaped_matrices, work_s
from lm_offload.hardware.product_rates import CACHED_SIZE
from lm_offload.hardware.product_work import product_work
from lm_offload.hardware.timing import typical_s
from lm_offload.kernels.base import Kernels
from lm_offload.quant.format import Format
from lm_offload.storage.arena import Arena

ROWS = 256  # of a product whose fixed cost, and the state of threads before, is little of it
ENOUGH_TURNS = 5  # a difference of few is mostly noise
TIMES = 4  # as many outputs, or inputs
SHAPES = {  # [N, K]
    "square": (CACHED_SIZE, CACHED_SIZE),
    "more outputs": (TIMES * CACHED_SIZE, CACHED_SIZE),
    "more inputs": (CACHED_SIZE, TIMES * CACHED_SIZE),
}


class Ends(NamedTuple):
    """Seconds of a value of the inputs, and of one of the outputs."""

    input_s: float
    output_s: float


NO_ENDS = Ends(0.0, 0.0)


class ProductEnds:
    """The seconds of both by format, taken in several turns."""

    def __init__(self) -> None:
        self._turns: dict[Format, list[Mapping[str, float]]] = {}  # of a call with each of SHAPES

    def measure(self, kernels: Kernels, arena: Arena, format: Format, budget_s: float) -> None:
        """Another turn with weights in `arena`, which the cache holds."""
        if max(format.matrix_bytes(*shape) for shape in SHAPES.values()) > arena.size_bytes:
            return
        works = {
            name: product_work(kernels, shaped_matrices(arena, format, shape), ROWS)
            for name, shape in SHAPES.items()
        }
        seconds = typical_s(works, budget_s)
        if len(seconds) == len(works):  # there was time for all
            self._turns.setdefault(format, []).append(seconds)

    def of(self, format: Format, fixed_s: float) -> Ends:
        """The median of the turns; nothing where there were too few. A call takes `fixed_s`."""
        turns = [_ends(seconds, fixed_s) for seconds in self._turns.get(format, [])]
        if len(turns) < ENOUGH_TURNS:
            return NO_ENDS
        return Ends(*(max(statistics.median(values), 0.0) for values in zip(*turns, strict=True)))


def _ends(seconds: Mapping[str, float], fixed_s: float) -> Ends:
    """From what products with four times as many of the others take less than four times."""
    square_s, *larger_s = (work_s(seconds[name], fixed_s) for name in SHAPES)
    saved_s = [(TIMES * square_s - one_s) / (TIMES - 1) for one_s in larger_s]
    return Ends(*(value_s / (ROWS * CACHED_SIZE) for value_s in saved_s))
