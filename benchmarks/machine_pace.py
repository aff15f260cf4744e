"""The profile that predictions are made from, as fast as the machine is just now.

A virtual machine shares memory, clock and disk with neighbours that no process list shows: its pace
moves by tens of per cent within a second. `benchmarks/pace_meter.py` measures it. Each curve of
products follows the product that tells its pace, as a point of the profile that was measured amiss
is then no pace of anything else. What computes from the caches follows products from the cache;
what the engine itself takes is left as profiled: sweeps that have nothing to compute take about
the same time while those products move by four times.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from lm_offload.hardware.curve import Curve, all_scaled
from lm_offload.hardware.link import Link
from lm_offload.hardware.processor import Processor
from lm_offload.hardware.product_rates import all_shorter
from lm_offload.hardware.profile import HardwareProfile

FEW_ROWS, MANY_ROWS = 1, 64  # of products that memory binds, or the cores


@dataclass(frozen=True)
class Pace:
    """Measured over profiled rates; 1.0 is as profiled."""

    memory: float  # of products of a row with weights from memory
    cores: float  # of products of many rows with weights from memory
    cached: float  # of products of many rows with weights from the cache
    disk: float


def at_pace(profile: HardwareProfile, pace: Pace) -> HardwareProfile:
    """The profile as it would have been measured now: all that memory, cores or disk bind."""
    return replace(
        profile,
        cpu=_cpu_at_pace(profile.cpu, pace),
        disk_read=_link_at_pace(profile.disk_read, pace.disk),
        disk_write=_link_at_pace(profile.disk_write, pace.disk),
    )


def _cpu_at_pace(cpu: Processor, pace: Pace) -> Processor:
    curves = ("cached_product_flops", "operation_bytes_per_s", "prefill_attention_flops")
    rates = ("peak_flops", "elementwise_bytes_per_s", "sampled_values_per_s")
    starts = ("kernel_s", "memory_start_s", "cached_start_s")
    scaled = {
        **{name: all_scaled(getattr(cpu, name), pace.cached) for name in curves},
        **{name: getattr(cpu, name) * pace.cached for name in rates},
        **{name: getattr(cpu, name) / pace.cached for name in starts},
    }
    decode = all_scaled(cpu.decode_attention_bytes_per_s, (pace.memory * pace.cached) ** 0.5)
    return replace(
        cpu,
        memory_bytes_per_s=cpu.memory_bytes_per_s * pace.memory,
        product_flops={
            name: _product_at_pace(curve, pace) for name, curve in cpu.product_flops.items()
        },
        decode_attention_bytes_per_s=decode,
        product_input_s=all_shorter(cpu.product_input_s, pace.cached),
        product_output_s=all_shorter(cpu.product_output_s, pace.cached),
        **scaled,
    )


def _product_at_pace(curve: Curve, pace: Pace) -> Curve:
    """One row as memory, many rows as the cores; between them by how far the rate has risen."""
    least, most = curve.at(FEW_ROWS), curve.at(MANY_ROWS)
    rates = []
    for rate in curve.rates:
        share = min(max((rate - least) / (most - least), 0.0), 1.0) if most > least else 1.0
        rates.append(rate * pace.memory ** (1 - share) * pace.cores**share)
    return Curve(curve.sizes, tuple(rates))


def _link_at_pace(link: Link, factor: float) -> Link:
    return replace(
        link,
        bytes_per_s=link.bytes_per_s.scaled(factor),
        request_s=link.request_s / factor,
        burst_bytes_per_s=_scaled(link.burst_bytes_per_s, factor),
        rows_bytes_per_s=_scaled(link.rows_bytes_per_s, factor),
        pieces_bytes_per_s=_scaled(link.pieces_bytes_per_s, factor),
    )


def _scaled(curve: Curve | None, factor: float) -> Curve | None:
    return curve.scaled(factor) if curve else None
