"""How much faster each kind of work gets with more threads."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from lm_offload.hardware.attention_probe import attention_work
from lm_offload.hardware.attention_rates import HeadShape
from lm_offload.hardware.curve import Curve
from lm_offload.hardware.measured_work import thread_counts
from lm_offload.hardware.product_probe import matrices
from lm_offload.hardware.product_rates import CACHED_SIZE, MEMORY_SIZE
from lm_offload.hardware.product_work import product_work
from lm_offload.hardware.timing import typical_s
from lm_offload.kernels.base import Kernels
from lm_offload.quant.format import parse_format
from lm_offload.storage.arena import Arena
from lm_offload.units import MIB

ROWS = 64  # of a product that is bound by arithmetic
SHAPE, CONTEXT = HeadShape(128, 4), 1024
CACHED_BYTES = 2 * MIB  # of weights that stay in the last-level cache
Call = Callable[[], object]
WorkOf = Callable[[Kernels], Call]  # a work on these kernels


def measure_speedups(kernels: Kernels, arena: Arena, budget_s: float) -> dict[str, Curve]:
    """By work the speedup over one thread, by number of threads 1, 2, 4, ... taken in turns.

    Matrices and caches lie in `arena`. Hand-offs to the threads are part of the work, most of all
    of a product from the cache.
    """
    speedups = {}
    works = _works(arena)
    for name, prepare in works.items():
        work_of = prepare()
        calls = {
            count: _on_threads(kernels, count, work_of) for count in thread_counts(kernels.threads)
        }
        seconds = typical_s(calls, budget_s / len(works))
        rates = tuple(seconds[1] / value for value in seconds.values())
        speedups[name] = Curve(tuple(map(float, seconds)), rates)
    kernels.with_threads(kernels.threads, kernels.threads)  # where torch keeps them
    return speedups


def _on_threads(kernels: Kernels, count: int, work_of: WorkOf) -> Call:
    """A call of the work on `count` threads; torch, which has one pool, is told at each."""
    run = work_of(kernels.with_threads(count, count))

    def call() -> None:
        kernels.with_threads(count, count)
        run()

    return call


def _works(arena: Arena) -> dict[str, Callable[[], WorkOf]]:
    """By name in THREADED_WORK, what fills `arena` and gives the work, when it is its turn."""
    small = arena.slice(0, min(CACHED_BYTES, arena.size_bytes))
    return {
        "product_row": partial(_product, arena, "bf16", MEMORY_SIZE, 1),
        "packed_product_row": partial(_product, arena, "int4", MEMORY_SIZE, 1),
        "cached_product_row": partial(_product, small, "bf16", CACHED_SIZE, 1),
        "product_rows": partial(_product, arena, "bf16", MEMORY_SIZE, ROWS),
        "decode_attention": partial(attention_work, arena, "decode", SHAPE, CONTEXT),
        "prefill_attention": partial(attention_work, arena, "prefill", SHAPE, CONTEXT),
    }


def _product(arena: Arena, format: str, size: int, rows: int) -> WorkOf:
    weights = matrices(arena, parse_format(format), size)
    return lambda kernels: product_work(kernels, weights, rows)
