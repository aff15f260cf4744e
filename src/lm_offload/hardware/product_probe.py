"""Products x[M, K] @ weight[N, K].T by format and rows M, with weights from memory or cache."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch

from lm_offload.hardware.curve import Curve
from lm_offload.hardware.product_work import empty_call, product_work
from lm_offload.hardware.timing import typical_s
from lm_offload.kernels.base import Kernels
from lm_offload.quant.format import TILE_ROWS, Format
from lm_offload.quant.packed import PackedWeight
from lm_offload.quant.quantize import quantize
from lm_offload.storage.arena import Arena, Memory
from lm_offload.units import align_down

if TYPE_CHECKING:
    from lm_offload.kernels.base import Weight

SIZE_STEP = 128  # a multiple of every format's groups
LEAST_FRAC = 0.05  # of a call's time that is work, however near that comes to the fixed cost

PLAIN = Format("bf16")
FORMATS = (
    PLAIN,
    Format("int4", 64, symmetric=False),
    Format("int8", 64),
    Format("fp16"),
    Format("fp32"),
)
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def measure_kernel_s(kernels: Kernels, budget_s: float) -> float:
    """Seconds of a call that has next to nothing to do."""
    return typical_s({"call": empty_call(kernels)}, budget_s)["call"]


_Weights = Mapping[Format, Sequence["Weight"]]
_Works = Mapping[tuple[Format, int], Callable[[], None]]


class _Call(NamedTuple):
    seconds: float
    flops: float


class Products:
    """Seconds of products with matrices of one size by format and rows, taken in several turns.

    `cached`: weights are brought into the cache before they are timed, as they lie there in a
    sweep.
    """

    def __init__(self, size: int, *, cached: bool) -> None:
        self._size = size
        self._cached = cached
        self._calls: dict[tuple[Format, int], list[_Call]] = {}  # of each turn

    def measure(
        self,
        kernels: Kernels,
        arena: Arena,
        formats: Sequence[Format],
        rows: Iterable[int],
        budget_s: float,
    ) -> None:
        """Another turn over formats whose matrices share `arena` and are used in turns."""
        part_bytes = align_down(arena.size_bytes // len(formats))
        weights = {
            format: matrices(arena.slice(part * part_bytes, part_bytes), format, self._size)
            for part, format in enumerate(formats)
        }
        works = {
            (format, count): product_work(kernels, weights[format], count)
            for count, format in itertools.product(rows, formats)
        }
        seconds = self._seconds(kernels, weights, works, budget_s)
        for (format, count), call_s in seconds.items():
            flops = 2.0 * count * math.prod(weights[format][0].shape)
            self._calls.setdefault((format, count), []).append(_Call(call_s, flops))

    def _seconds(
        self, kernels: Kernels, weights: _Weights, works: _Works, budget_s: float
    ) -> dict[tuple[Format, int], float]:
        """Of one call of each; from the cache one work after the other.

        Inputs and outputs of many rows, in turns with few, push the weights out of a cache of
        32 MiB: one row took twice as long.
        """
        if not self._cached:
            return typical_s(works, budget_s)
        part_s = budget_s / len(works)
        return {
            (format, count): settled_s(work, kernels, weights[format], part_s)
            for (format, count), work in works.items()
        }

    def flops(self, format: Format, fixed_s: float) -> Curve | None:
        """FLOP/s by rows, ascending; the median of the turns, as a stall may fill one.

        `fixed_s` is what a call takes beside its FLOPs. None where there was no time for any.
        """
        known = sorted((count, calls) for (of, count), calls in self._calls.items() if of == format)
        if not known:
            return None
        flop_s = [
            statistics.median(work_s(call.seconds, fixed_s) / call.flops for call in calls)
            for _, calls in known
        ]
        return Curve(tuple(float(count) for count, _ in known), tuple(1 / s for s in flop_s))


def settled_s(
    work: Callable[[], None], kernels: Kernels, weights: Sequence[Weight], budget_s: float
) -> float:
    """Typical seconds of a call after a product of one row with each of its matrices.

    It brings into the caches what they keep.
    """
    bring = product_work(kernels, weights, 1)
    for _ in weights:
        bring()
    return typical_s({None: work}, budget_s)[None]


def work_s(call_s: float, fixed_s: float) -> float:
    """What remains of a call without its fixed cost."""
    return max(call_s - fixed_s, LEAST_FRAC * call_s)


def matrices(arena: Memory, format: Format, size: int) -> Sequence[Weight]:
    """As many [size, size] matrices as fit into `arena`; smaller ones where two would not fit."""
    most = math.isqrt(arena.size_bytes // 2 // torch.float32.itemsize)
    size = max(min(size, most) // SIZE_STEP, 1) * SIZE_STEP
    return shaped_matrices(arena, format, (size, size))


def shaped_matrices(arena: Memory, format: Format, shape: tuple[int, int]) -> Sequence[Weight]:
    """As many matrices [N, K] as fit into `arena`, in multiples of SIZE_STEP."""
    return (_packed if format.is_packed else _plain)(arena, format, shape)


def _plain(arena: Memory, format: Format, shape: tuple[int, int]) -> Sequence[Weight]:
    dtype = DTYPES[format.name]
    count = max(arena.size_bytes // format.matrix_bytes(*shape), 1)
    return list(arena.view(0, dtype, (count, *shape)).fill_(0.01))


def _packed(arena: Memory, format: Format, shape: tuple[int, int]) -> Sequence[Weight]:
    """Matrices of one tile of eight rows again and again."""
    tile = quantize(torch.randn(TILE_ROWS, shape[1]), format, "a probe").data
    count = max(arena.size_bytes // format.matrix_bytes(*shape), 1)
    data = arena.view(0, torch.uint8, (count, shape[0] // TILE_ROWS, len(tile))).copy_(tile)
    return [PackedWeight(part.flatten(), format, shape) for part in data]
