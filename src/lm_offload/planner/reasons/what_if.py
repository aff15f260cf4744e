"""The same machine with one thing better: what the explanation of a plan plans for again.

Each point of a measured curve is bound by memory or by arithmetic: by memory where the bytes that
it reads a second come near what memory gives. Only these gain from faster memory, only the others
from faster arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from lm_offload.hardware.curve import Curve, all_scaled
from lm_offload.hardware.processor import Processor
from lm_offload.hardware.product_rates import all_shorter
from lm_offload.hardware.profile import HardwareProfile
from lm_offload.quant.format import Format, parse_format

MEMORY_BOUND = 0.7  # of the memory's rate
MATRIX = 1 << 12  # rows and columns of a matrix whose bytes per weight are looked at

Curves = Mapping[str, Curve]


def faster_disk(profile: HardwareProfile, factor: float) -> HardwareProfile:
    """Every read takes less time."""
    link = profile.disk_read
    rates = link.bytes_per_s.scaled(factor)
    faster = replace(link, bytes_per_s=rates, request_s=link.request_s / factor)
    return replace(profile, disk_read=faster)


def faster_link(profile: HardwareProfile, factor: float) -> HardwareProfile:
    """Every upload takes less time."""
    link = profile.h2d
    if link is None:
        return profile
    rates = link.bytes_per_s.scaled(factor)
    faster = replace(link, bytes_per_s=rates, request_s=link.request_s / factor)
    return replace(profile, h2d=faster)


def on_gpu(
    helper: Callable[[HardwareProfile, float], HardwareProfile],
) -> Callable[[HardwareProfile, float], HardwareProfile]:
    """What helps a CPU, for the GPU of a profile that has one."""

    def helped(profile: HardwareProfile, factor: float) -> HardwareProfile:
        if profile.gpu is None:
            return profile
        return replace(profile, gpu=helper(replace(profile, cpu=profile.gpu), factor).cpu)

    return helped


def faster_memory(profile: HardwareProfile, factor: float) -> HardwareProfile:
    """What is bound by memory takes less time, as far as arithmetic keeps up."""
    cpu = profile.cpu
    products = {
        name: _product_curve(curve, cpu, name, factor, 1.0)
        for name, curve in cpu.product_flops.items()
    }
    attention = _attention_curves(cpu, factor, 1.0)
    faster = replace(
        cpu,
        memory_bytes_per_s=cpu.memory_bytes_per_s * factor,
        product_flops=products,
        decode_attention_bytes_per_s=attention,
    )
    return replace(profile, cpu=faster)


def faster_compute(profile: HardwareProfile, factor: float) -> HardwareProfile:
    """What is bound by arithmetic takes less time, as far as memory keeps up."""
    cpu = profile.cpu
    faster = replace(
        cpu,
        peak_flops=cpu.peak_flops * factor,
        elementwise_bytes_per_s=cpu.elementwise_bytes_per_s * factor,
        operation_bytes_per_s=all_scaled(cpu.operation_bytes_per_s, factor),
        cached_product_flops=all_scaled(cpu.cached_product_flops, factor),
        product_input_s=all_shorter(cpu.product_input_s, factor),
        product_output_s=all_shorter(cpu.product_output_s, factor),
        prefill_attention_flops=all_scaled(cpu.prefill_attention_flops, factor),
        decode_attention_bytes_per_s=_attention_curves(cpu, 1.0, factor),
        product_flops={
            name: _product_curve(curve, cpu, name, 1.0, factor)
            for name, curve in cpu.product_flops.items()
        },
    )
    return replace(profile, cpu=faster)


def _product_curve(
    curve: Curve, cpu: Processor, name: str, memory_factor: float, compute_factor: float
) -> Curve:
    """A point bound by memory is capped by the cache's rate, one by arithmetic by the roofline."""
    weight_format, cached = parse_format(name), cpu.cached_product_flops.get(name)

    def faster(rows: float, flops: float) -> float:
        by_memory = flops * _bytes_per_weight(weight_format) / (2 * rows)
        if by_memory >= MEMORY_BOUND * cpu.memory_bytes_per_s:
            most = cached.at(rows) if cached and memory_factor > 1 else cpu.peak_flops
            return max(flops, min(flops * memory_factor, most))
        most = 2 * rows * cpu.memory_bytes_per_s / _bytes_per_weight(weight_format)
        return max(flops, min(flops * compute_factor, most))

    return curve.mapped(faster)


def _attention_curves(cpu: Processor, memory_factor: float, compute_factor: float) -> Curves:
    limit = MEMORY_BOUND * cpu.memory_bytes_per_s

    def faster(context: float, rate: float) -> float:
        return rate * (memory_factor if rate >= limit else compute_factor)

    curves = cpu.decode_attention_bytes_per_s
    return {name: curve.mapped(faster) for name, curve in curves.items()}


def _bytes_per_weight(weight_format: Format) -> float:
    return weight_format.matrix_bytes(MATRIX, MATRIX) / MATRIX**2
