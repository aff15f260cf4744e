"""A profile on fewer threads than all: what each kind of work loses.

::

    rate(p) = rate(P) S(p) / S(P)      S: measured speedup over one thread, P: all threads

A machine of which no speedups are known is taken to compute in proportion to its threads, and to
read memory by `memory_by_threads_bytes_per_s` or in proportion too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from lm_offload.hardware.attention_rates import split_key
from lm_offload.hardware.curve import Curve, all_scaled
from lm_offload.hardware.processor import Processor
from lm_offload.hardware.product_rates import all_shorter
from lm_offload.hardware.profile import HardwareProfile
from lm_offload.plan import ThreadPlan
from lm_offload.quant.format import parse_format

MEMORY_BOUND = ("product_row", "packed_product_row", "decode_attention")
MANY_ROWS = 64.0  # from which on a product is bound by arithmetic
PARALLEL_BYTES = 128 << 10  # of activations: elementwise kernels leave less to one thread

Curves = Mapping[str, Curve]


def with_threads(profile: HardwareProfile, threads: ThreadPlan) -> HardwareProfile:
    """The rates of CPU tasks on the threads of a plan."""
    if threads.compute == threads.attention == profile.cpu.threads:
        return profile
    return replace(profile, cpu=_on_threads(profile.cpu, threads.compute, threads.attention))


def over_blocks_apart(cpu: Processor) -> Processor:
    """The rates where the blocks of a layer lie apart; as they are if no loss was measured."""
    losses = cpu.attention_apart_frac
    if not losses:
        return cpu
    rates = {
        name: curve.scaled(losses.get(split_key(name)[0], 1.0))
        for name, curve in cpu.decode_attention_bytes_per_s.items()
    }
    return replace(cpu, decode_attention_bytes_per_s=rates)


def speedup(cpu: Processor, work: str, threads: int) -> float:
    """How much faster than on one thread a kind of work runs."""
    curve = cpu.thread_speedup.get(work)
    if curve is None and work in MEMORY_BOUND:
        curve = cpu.memory_by_threads_bytes_per_s
    return curve.at(threads) / curve.at(1) if curve else float(threads)


def _on_threads(cpu: Processor, compute: int, attention: int) -> Processor:
    arithmetic, memory = _share(cpu, "product_rows", compute), _memory_share(cpu, compute)
    decode = _share(cpu, "decode_attention", attention)
    prefill = _share(cpu, "prefill_attention", attention)
    cached = _products(cpu.cached_product_flops, cpu, "cached_product_row", compute)
    return replace(
        cpu,
        memory_bytes_per_s=cpu.memory_bytes_per_s * memory,
        peak_flops=cpu.peak_flops * arithmetic,
        elementwise_bytes_per_s=cpu.elementwise_bytes_per_s * memory,
        operation_bytes_per_s=_operations(cpu.operation_bytes_per_s, arithmetic),
        product_flops=_products(cpu.product_flops, cpu, "product_row", compute),
        cached_product_flops=cached,
        product_input_s=all_shorter(cpu.product_input_s, arithmetic),
        product_output_s=all_shorter(cpu.product_output_s, arithmetic),
        decode_attention_bytes_per_s=all_scaled(cpu.decode_attention_bytes_per_s, decode),
        prefill_attention_flops=all_scaled(cpu.prefill_attention_flops, prefill),
        state_values_per_s=_states(cpu.state_values_per_s, memory, arithmetic),
    )


def _share(cpu: Processor, work: str, threads: int) -> float:
    return speedup(cpu, work, threads) / speedup(cpu, work, cpu.threads)


def _memory_share(cpu: Processor, threads: int) -> float:
    curve = cpu.memory_by_threads_bytes_per_s
    return curve.at(threads) / curve.at(cpu.threads) if curve else threads / cpu.threads


def _products(curves: Curves, cpu: Processor, one_row: str, threads: int) -> dict[str, Curve]:
    """One row as its own speedup says, many rows as arithmetic's, between them on log axes."""
    many = _share(cpu, "product_rows", threads)
    return {
        name: _product(curve, _one_row(cpu, name, one_row, threads), many)
        for name, curve in curves.items()
    }


def _one_row(cpu: Processor, format: str, work: str, threads: int) -> float:
    packed = parse_format(format).is_packed and work == "product_row"
    return _share(cpu, "packed_product_row" if packed else work, threads)


def _product(curve: Curve, one: float, many: float) -> Curve:
    def slower(rows: float, flops: float) -> float:
        share = min(math.log(max(rows, 1.0)) / math.log(MANY_ROWS), 1.0)
        return flops * math.pow(one, 1 - share) * math.pow(many, share)

    return curve.mapped(slower)


def _states(curve: Curve | None, one: float, many: float) -> Curve | None:
    """One row reads the state from memory, many find it in caches."""
    return None if curve is None else _product(curve, one, many)


def _operations(curves: Curves, share: float) -> dict[str, Curve]:
    def slower(size_bytes: float, rate: float) -> float:
        return rate * share if size_bytes >= PARALLEL_BYTES else rate

    return {name: curve.mapped(slower) for name, curve in curves.items()}
