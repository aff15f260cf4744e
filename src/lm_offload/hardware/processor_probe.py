"""Everything that the CPU computes, as a `Processor`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import torch

from lm_offload.hardware.attention_probe import AttentionRates, among, measure_attention
from lm_offload.hardware.cache_probe import measure_cache
from lm_offload.hardware.curve import Curve
from lm_offload.hardware.effort import Clock, Effort
from lm_offload.hardware.machine import describe_machine
from lm_offload.hardware.memory_probe import measure_memory
from lm_offload.hardware.operation_probe import measure_operations
from lm_offload.hardware.product_ends import Ends, ProductEnds
from lm_offload.hardware.product_probe import (
    FORMATS,
    PLAIN,
    Products,
    matrices,
    measure_kernel_s,
    product_work,
)
from lm_offload.hardware.product_rates import CACHED_SIZE, MEMORY_SIZE
from lm_offload.hardware.profile import Processor
from lm_offload.hardware.quantize_probe import measure_quantizing
from lm_offload.hardware.thread_probe import measure_speedups
from lm_offload.kernels.base import Kernels
from lm_offload.quant.format import Format
from lm_offload.quant.kv_format import KV_FORMATS
from lm_offload.storage.arena import Arena
from lm_offload.units import MIB

COMMON = "bf16"  # the format that most checkpoints and caches have
KERNEL_BUDGET_S = 0.02
# Of weights that stay in the cache. A sweep reads the same weights every few milliseconds, a probe
# does other work meanwhile: of 12 MiB a part had to make room, and one row took twice as long as in
# sweeps of models of that size.
CACHED_BYTES = 4 * MIB
CACHED_TIME_FRAC = 0.35  # of the time for products
ENDS_TIME_FRAC = 0.4  # of that, for inputs and outputs
OPERATION_ROWS = (1, 16, 128)
OTHER_ROWS = 16  # of a product before a kernel that is timed as in a prompt
OPERATION_BYTES = MIB  # of a call whose rate stands for kernels that were not measured


def measure_processor(kernels: Kernels, arena: Arena, effort: Effort, clock: Clock) -> Processor:
    """Rates of all kernels with weights and caches in `arena`, which should exceed the cache."""
    by_threads = measure_memory(arena, kernels.threads, clock.budget_s("memory"))
    kernel_s = measure_kernel_s(kernels, KERNEL_BUDGET_S)
    cache = measure_cache(kernels, arena, kernel_s, clock.budget_s("cache"))
    small = arena.slice(0, min(CACHED_BYTES, cache.cache_bytes))
    fixed_s = kernel_s + cache.cached_start_s, kernel_s + cache.start_s
    products = _measure_products(kernels, small, arena, effort, fixed_s, clock)
    other = product_work(kernels, matrices(small, PLAIN, CACHED_SIZE), OTHER_ROWS)
    attention = _measure_attention(
        kernels, arena, effort, other, kernel_s, clock.budget_s("attention")
    )
    budget_s = clock.budget_s("other kernels")
    operations = measure_operations(kernels, OPERATION_ROWS, other, kernel_s, budget_s)
    quantizing = measure_quantizing(effort.packed_formats, clock.budget_s("quantizing"))
    speedups = _measure_speedups(kernels, arena, effort, clock)
    return Processor(
        threads=kernels.threads,
        memory_bytes=describe_machine().memory_bytes,
        memory_bytes_per_s=by_threads.at(kernels.threads),
        # Of matrices from memory: calls so long that a fixed cost measured amiss cannot show.
        peak_flops=max(max(curve.rates) for curve in products.uncached.values()),
        kernel_s=kernel_s,
        memory_start_s=cache.start_s,
        cached_start_s=cache.cached_start_s,
        cache_bytes=cache.cache_bytes,
        elementwise_bytes_per_s=operations["rms_norm"].at(OPERATION_BYTES),
        operation_bytes_per_s=operations,
        product_flops=products.uncached,
        cached_product_flops=products.cached,
        product_input_s=_known({name: ends.input_s for name, ends in products.ends.items()}),
        product_output_s=_known({name: ends.output_s for name, ends in products.ends.items()}),
        decode_attention_bytes_per_s=attention.decode_bytes_per_s,
        prefill_attention_flops=attention.prefill_flops,
        attention_apart_frac=attention.apart_frac,
        quantize_values_per_s=quantizing[0],
        dequantize_values_per_s=quantizing[1],
        memory_by_threads_bytes_per_s=by_threads,
        thread_speedup=speedups,
    )


def _measure_attention(
    kernels: Kernels,
    arena: Arena,
    effort: Effort,
    other: Callable[[], None],
    kernel_s: float,
    budget_s: float,
) -> AttentionRates:
    """Over caches of every format, the common one in more shapes of heads than others."""
    shapes = {
        str(format): effort.shapes if name == COMMON else effort.other_shapes
        for name, format in KV_FORMATS.items()
    }
    limits = kernel_s, budget_s, among(other)
    return measure_attention(kernels, shapes, effort.contexts, arena, *limits)


def _measure_speedups(
    kernels: Kernels, arena: Arena, effort: Effort, clock: Clock
) -> dict[str, Curve]:
    """Empty where there is nothing to choose, or too little time to choose by."""
    budget_s = clock.budget_s("threads")
    if kernels.threads == 1 or not effort.threads:
        return {}
    return measure_speedups(kernels, arena, budget_s)


class _ProductRates(NamedTuple):
    """By format: curves with weights from the cache and from memory, and what goes beside them."""

    cached: dict[str, Curve]
    uncached: dict[str, Curve]
    ends: dict[str, Ends]


def _measure_products(
    kernels: Kernels,
    small: Arena,
    arena: Arena,
    effort: Effort,
    fixed_s: tuple[float, float],
    clock: Clock,
) -> _ProductRates:
    """With weights in `small` from the cache, and in `arena` from memory.

    `fixed_s` of a call are taken off. The pace of a shared machine moves within a second: it is to
    be the same for all formats, so those from memory are measured side by side, and each of those
    from the cache, which would push one another out of a small one, in many short turns.
    """
    formats = (*FORMATS, *effort.other_formats)
    cached, uncached = (
        Products(size, seconds, cached=size == CACHED_SIZE)
        for size, seconds in zip((CACHED_SIZE, MEMORY_SIZE), fixed_s, strict=True)
    )
    ends = ProductEnds(fixed_s[0])
    for turn in range(effort.turns):
        budget_s = clock.budget_s("products", f"{turn + 1} of {effort.turns}", effort.turns)
        for some in _together(formats, arena.size_bytes):
            part_s = budget_s * (1 - CACHED_TIME_FRAC) * len(some) / len(formats)
            uncached.measure(kernels, arena, some, effort.rows, part_s)
        short = [*formats] * effort.turns
        for format in short:
            short_s = budget_s * CACHED_TIME_FRAC / len(short)
            cached.measure(kernels, small, [format], effort.rows, short_s * (1 - ENDS_TIME_FRAC))
            ends.measure(kernels, small, format, short_s * ENDS_TIME_FRAC)
    found = {str(format): ends.of(format) for format in formats}
    return _ProductRates(_curves(cached, formats), _curves(uncached, formats), found)


def _together(formats: Sequence[Format], size_bytes: int) -> list[Sequence[Format]]:
    """As many formats at once as have matrices of full size in so many bytes."""
    count = max(size_bytes // (2 * MEMORY_SIZE**2 * torch.float32.itemsize), 1)
    return [formats[start : start + count] for start in range(0, len(formats), count)]


def _curves(products: Products, formats: Iterable[Format]) -> dict[str, Curve]:
    return {str(format): products.flops(format) for format in formats}


def _known(seconds: Mapping[str, float]) -> dict[str, float]:
    """Those that take any time."""
    return {name: value for name, value in seconds.items() if value}


def memory_bound_product(kernels: Kernels, arena: Arena) -> Callable[[], None]:
    """What a decode does most of the time: products of one row with weights from memory."""
    return product_work(kernels, matrices(arena, FORMATS[0], MEMORY_SIZE), 1)
