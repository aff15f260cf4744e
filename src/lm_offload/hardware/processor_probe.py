"""Everything that the CPU computes, as a `Processor`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from lm_offload.hardware.attention_probe import AttentionRates, measure_attention
from lm_offload.hardware.attention_setting import Setting, among
from lm_offload.hardware.cache_probe import CacheCosts, measure_cache
from lm_offload.hardware.clock import Clock
from lm_offload.hardware.curve import Curve
from lm_offload.hardware.effort import Effort
from lm_offload.hardware.machine import describe_machine
from lm_offload.hardware.memory_probe import measure_memory
from lm_offload.hardware.operation_probe import measure_operations
from lm_offload.hardware.processor import Processor
from lm_offload.hardware.product_probe import FORMATS, PLAIN, matrices, measure_kernel_s
from lm_offload.hardware.product_rates import CACHED_SIZE, MEMORY_SIZE
from lm_offload.hardware.product_stage import measure_products
from lm_offload.hardware.product_work import measure_work_s, product_work
from lm_offload.hardware.quantize_probe import measure_quantizing
from lm_offload.hardware.state_probe import measure_states
from lm_offload.hardware.thread_probe import measure_speedups
from lm_offload.kernels.base import Kernels
from lm_offload.kernels.resolve import resolve_quantize
from lm_offload.quant.kv_format import KV_FORMATS
from lm_offload.storage.arena import Arena
from lm_offload.units import MIB

COMMON = "bf16"  # the format that most checkpoints and caches have
KERNEL_BUDGET_S = 0.02
OPERATION_ROWS = (1, 16, 128)
STATE_ROWS = (1, 8, 64)
OTHER_ROWS = 16  # of a product before a kernel that is timed as in a prompt
OPERATION_BYTES = MIB  # of a call whose rate stands for kernels that were not measured


def measure_processor(kernels: Kernels, arena: Arena, effort: Effort, clock: Clock) -> Processor:
    """Rates of all kernels with weights and caches in `arena`, which should exceed the cache."""
    by_threads = clock.watched("memory", partial(measure_memory, arena, kernels.threads))
    calls, cache = clock.watched("cache", partial(_measure_calls_and_cache, kernels, arena))
    kernel_s, work_s = calls
    small = arena.slice(0, cache.cached_bytes)
    products = measure_products(
        kernels, small, arena, effort, (work_s, work_s + cache.start_s), clock
    )
    other = product_work(kernels, matrices(small, PLAIN, CACHED_SIZE), OTHER_ROWS)
    setting = among(other, work_s, cache.cached_bytes)
    given = kernels, arena, effort, setting, kernel_s
    attention = clock.watched("attention", partial(_measure_attention, *given))
    rows = kernels, OPERATION_ROWS, other, kernel_s
    operations = clock.watched("other kernels", partial(measure_operations, *rows))
    rounding = resolve_quantize(kernels.threads), effort.packed_formats
    quantizing = clock.watched("quantizing", partial(measure_quantizing, *rounding))
    of_states = kernels, arena, STATE_ROWS, kernel_s
    states = clock.watched("recurrent states", partial(measure_states, *of_states))
    speedups = _measure_speedups(kernels, arena, effort, clock)
    return Processor(
        threads=kernels.threads,
        memory_bytes=describe_machine().memory_bytes,
        memory_bytes_per_s=by_threads.at(kernels.threads),
        # Of matrices from memory: calls so long that a fixed cost measured amiss cannot show.
        peak_flops=max(max(curve.rates) for curve in products.uncached.values()),
        kernel_s=kernel_s,
        memory_start_s=cache.start_s,
        cached_start_s=products.cached_start_s,
        cache_bytes=cache.cache_bytes,
        cache_bytes_per_s=cache.bytes_per_s,
        elementwise_bytes_per_s=operations["rms_norm"].at(OPERATION_BYTES),
        operation_bytes_per_s=operations,
        product_flops=products.uncached,
        cached_product_flops=products.cached,
        product_input_s=_known({name: ends.input_s for name, ends in products.ends.items()}),
        product_output_s=_known({name: ends.output_s for name, ends in products.ends.items()}),
        decode_attention_bytes_per_s=attention.decode_bytes_per_s,
        prefill_attention_flops=attention.prefill_flops,
        attention_apart_frac=attention.apart_frac,
        attention_cached_speedup=attention.cached_speedup,
        state_values_per_s=states,
        quantize_values_per_s=quantizing[0],
        dequantize_values_per_s=quantizing[1],
        memory_by_threads_bytes_per_s=by_threads,
        thread_speedup=speedups,
    )


def _measure_calls_and_cache(
    kernels: Kernels, arena: Arena, budget_s: float
) -> tuple[tuple[float, float], CacheCosts]:
    """A call with next to nothing to do, asked for and replayed, and what the cache keeps."""
    kernel_s = measure_kernel_s(kernels, KERNEL_BUDGET_S)
    work_s = measure_work_s(kernels, KERNEL_BUDGET_S)
    return (kernel_s, work_s), measure_cache(kernels, arena, work_s, budget_s)


def _measure_attention(
    kernels: Kernels,
    arena: Arena,
    effort: Effort,
    setting: Setting,
    kernel_s: float,
    budget_s: float,
) -> AttentionRates:
    """Over caches of every format, the common one in more shapes of heads than others."""
    shapes = {
        str(format): effort.shapes if name == COMMON else effort.other_shapes
        for name, format in KV_FORMATS.items()
    }
    limits = kernel_s, budget_s, setting
    return measure_attention(kernels, shapes, effort.contexts, arena, *limits)


def _measure_speedups(
    kernels: Kernels, arena: Arena, effort: Effort, clock: Clock
) -> dict[str, Curve]:
    """Empty where there is nothing to choose, or too little time to choose by."""
    if kernels.threads == 1 or not effort.threads:
        clock.budget_s("threads")
        return {}
    return clock.watched("threads", partial(measure_speedups, kernels, arena))


def _known(seconds: Mapping[str, float]) -> dict[str, float]:
    """Those that take any time."""
    return {name: value for name, value in seconds.items() if value}


def memory_bound_product(kernels: Kernels, arena: Arena) -> Callable[[], None]:
    """What a decode does most of the time: products of one row with weights from memory."""
    return product_work(kernels, matrices(arena, FORMATS[0], MEMORY_SIZE), 1)
