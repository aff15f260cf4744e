"""What a machine can do, measured or described: the only source of speeds in the planner."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from lm_offload.quant.format import Format

NO_CURVES: Mapping[str, Curve] = MappingProxyType({})


@dataclass(frozen=True)
class Curve:
    """A rate known at some sizes; between them straight on logarithmic axes, flat beyond the ends.

    Sizes ascend; sizes and rates are positive.
    """

    sizes: tuple[float, ...]
    rates: tuple[float, ...]

    def at(self, size: float) -> float:
        """The rate at `size`."""
        right = bisect_right(self.sizes, size)
        if right == 0:
            return self.rates[0]
        if right == len(self.sizes):
            return self.rates[-1]
        low, high = self.sizes[right - 1], self.sizes[right]
        share = math.log(size / low) / math.log(high / low)
        return math.exp(
            (1 - share) * math.log(self.rates[right - 1]) + share * math.log(self.rates[right])
        )


@dataclass(frozen=True)
class Link:
    """One direction between two tiers: a rate by block size and a cost of each transfer."""

    bytes_per_s: Curve  # by block bytes, at the best number of blocks in flight
    request_s: float = 0.0  # fixed cost of a transfer, not overlapped
    block_bytes: int = 0  # the best block; 0: whole transfers
    concurrency: int = 1  # blocks in flight at which the rates hold

    def transfer_s(self, size_bytes: float) -> float:
        """Seconds to move `size_bytes` in the best blocks."""
        if size_bytes <= 0:
            return 0.0
        block_bytes = min(size_bytes, self.block_bytes or size_bytes)
        return self.request_s + size_bytes / self.bytes_per_s.at(block_bytes)


@dataclass(frozen=True)
class Processor:
    """What one device computes how fast, and the memory that it computes from.

    Curves that are missing are replaced by the roofline of `memory_bytes_per_s` and
    `peak_flops`; see docs/performance_model.md.
    """

    threads: int
    memory_bytes: int
    memory_bytes_per_s: float
    peak_flops: float  # of the best product of many rows
    kernel_s: float = 0.0  # fixed cost of one kernel: launch, or hand-off to the threads
    task_s: float = 0.0  # fixed cost of one task beside its kernels
    cache_bytes: int = 0  # last-level cache; 0: none that matters
    elementwise_bytes_per_s: float = 0.0  # norms, rotary, activations; 0: as memory
    product_flops: Mapping[str, Curve] = NO_CURVES  # by format, by rows; weights from memory
    cached_product_flops: Mapping[str, Curve] = NO_CURVES  # the same, weights from the cache
    decode_attention_bytes_per_s: Mapping[str, Curve] = NO_CURVES  # by KV format, by context
    prefill_attention_flops: Mapping[str, Curve] = NO_CURVES  # by KV format, by context
    quantize_values_per_s: Mapping[str, float] = field(default_factory=dict)  # by format
    dequantize_values_per_s: Mapping[str, float] = field(default_factory=dict)

    def product_s(self, format: Format, rows: int, weights: float, cached: bool = False) -> float:
        """Seconds of a product of `rows` rows with `weights` weights, without `kernel_s`."""
        curves = self.cached_product_flops if cached else self.product_flops
        curve = curves.get(str(format)) or self.product_flops.get(str(format))
        flops = curve.at(rows) if curve else self.roofline_flops(format, rows)
        return 2.0 * rows * weights / flops

    def roofline_flops(self, format: Format, rows: int) -> float:
        """FLOP/s of a product of `rows` rows by memory bandwidth and peak (Williams 2009)."""
        bytes_per_weight = format.matrix_bytes(1 << 12, 1 << 12) / (1 << 24)
        return min(self.peak_flops, 2.0 * rows * self.memory_bytes_per_s / bytes_per_weight)


@dataclass(frozen=True)
class Interference:
    """What is left of a rate while another resource works: 1 where they do not disturb."""

    disk_read_while_computing_frac: float = 1.0
    compute_while_reading_frac: float = 1.0


@dataclass(frozen=True)
class HardwareProfile:
    """A machine of up to three tiers and two processors.

    `source` says where the numbers come from: "measured", or the paper or data sheet.
    """

    name: str
    source: str
    cpu: Processor
    disk_bytes: int
    disk_read: Link
    disk_write: Link
    gpu: Processor | None = None
    h2d: Link | None = None  # host to device: CPU memory to GPU memory
    d2h: Link | None = None
    interference: Interference = Interference()
    fingerprint: tuple[tuple[str, str], ...] = ()  # empty: described by hand
