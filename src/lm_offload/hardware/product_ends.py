"""What products take for each value of their inputs and outputs, beside their FLOPs.

::

    product = 2 M N K / F + M K input_s + M N output_s

Inputs are rounded or put in order once for all N outputs, sums of lanes are added up once for all
K inputs. Matrices of a quarter of the outputs, or of the inputs, tell the two apart.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import NamedTuple

from lm_offload.hardware.product_probe import product_work, shaped_matrices, work_s
from lm_offload.hardware.product_rates import CACHED_SIZE
from lm_offload.hardware.timing import typical_s
from lm_offload.kernels.base import Kernels
from lm_offload.quant.format import Format
from lm_offload.storage.arena import Arena

ROWS = 256  # of a product whose fixed cost is little beside the rest
PART = 4  # of the outputs, or of the inputs
SHAPES = {  # [N, K]
    "whole": (CACHED_SIZE, CACHED_SIZE),
    "few outputs": (CACHED_SIZE // PART, CACHED_SIZE),
    "few inputs": (CACHED_SIZE, CACHED_SIZE // PART),
}


class Ends(NamedTuple):
    """Seconds of a value of the inputs, and of one of the outputs."""

    input_s: float
    output_s: float

    @property
    def both_s(self) -> float:
        """Of one value of each."""
        return self.input_s + self.output_s


NO_ENDS = Ends(0.0, 0.0)


class ProductEnds:
    """The seconds of both by format, taken in several turns; `fixed_s` is what a call takes."""

    def __init__(self, fixed_s: float) -> None:
        self._fixed_s = fixed_s
        self._turns: dict[Format, list[Ends]] = {}

    def measure(self, kernels: Kernels, arena: Arena, format: Format, budget_s: float) -> None:
        """Another turn with weights in `arena`, which the cache holds."""
        if format.matrix_bytes(*SHAPES["whole"]) > arena.size_bytes:
            return
        works = {
            name: product_work(kernels, shaped_matrices(arena, format, shape), ROWS)
            for name, shape in SHAPES.items()
        }
        seconds = typical_s(works, budget_s)
        if len(seconds) == len(works):  # there was time for all
            self._turns.setdefault(format, []).append(self._ends(seconds))

    def of(self, format: Format) -> Ends:
        """The median of the turns; nothing where none was finished."""
        turns = self._turns.get(format, [NO_ENDS])
        return Ends(*(statistics.median(values) for values in zip(*turns, strict=True)))

    def _ends(self, seconds: Mapping[str, float]) -> Ends:
        """From what a product with a quarter of the values takes too long for a quarter."""
        whole_s, *parts_s = (work_s(seconds[name], self._fixed_s) for name in SHAPES)
        more_s = [(PART * part_s - whole_s) / (PART - 1) for part_s in parts_s]
        return Ends(*(max(value_s, 0.0) / (ROWS * CACHED_SIZE) for value_s in more_s))
