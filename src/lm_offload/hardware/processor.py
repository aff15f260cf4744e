"""What one device computes how fast, measured or described."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lm_offload.hardware.attention_rates import HeadShape, attention_rate, split_key
from lm_offload.hardware.curve import Curve
from lm_offload.hardware.product_rates import curve_of, rate_by_width, value_of, with_ends
from lm_offload.quant.format import Format, parse_format

TINY_TASK_BYTES = 1 << 19  # of weights, up to which a task takes `tiny_task_s`
SMALL_TASK_BYTES = 1 << 20  # with which it takes `task_s`


@dataclass(frozen=True)
class Processor:
    """What one device computes how fast, and the memory that it computes from.

    Rates are those of one kernel call without its fixed cost: a call takes `kernel_s`, a product
    its start, and then its bytes or FLOPs over the rate. Curves that are missing are replaced by
    the roofline of `memory_bytes_per_s` and `peak_flops`; see docs/performance_model.md.
    """

    threads: int
    memory_bytes: int
    memory_bytes_per_s: float  # read by all `threads`
    peak_flops: float  # of the best product of many rows
    kernel_s: float = 0.0  # fixed cost of one kernel: launch, or hand-off to the threads
    memory_start_s: float = 0.0  # of a product with weights from memory, until they stream
    cached_start_s: float = 0.0  # with weights from the cache, until all threads take part
    task_s: float = 0.0  # fixed cost of one task (unit and micro-batch) beside its kernels
    tiny_task_s: float = 0.0  # the same where weights leave the inner caches alone; 0: task_s
    large_task_s: float = 0.0  # the same after weights that fill the last-level cache; 0: task_s
    joined_task_s: float | None = None  # of a resident unit behind another one; None: as others
    call_s: float = 0.0  # of a kernel that is asked for and not replayed; 0: kernel_s of every one
    replay_s: float = 0.0  # of a unit whose launches a device has recorded; 0: it records none
    few_rows: int = 0  # that multiply a packed weight as it is, of two ways; 0: not measured
    sweep_s: float = 0.0  # fixed cost of one sweep beside its tasks
    sequence_s: float = 0.0  # of a sweep for each sequence in it: scheduling, its sampled token
    prompt_s: float = 0.0  # the same for each whose prompt begins in it: finding its blocks
    micro_batch_s: float = 0.0  # of a sweep for each micro-batch after the first
    row_s: float = 0.0  # of a sweep for each row beyond one of a sequence: index tensors
    cached_overhead_frac: float = 1.0  # of these where all weights stay in the last-level cache
    # `sweep_s` of decode with all weights in memory, by bytes that sweeps use again and again;
    # None: as much of it as `cached_overhead_frac` says, up to those that stay.
    sweep_by_bytes_s: Curve | None = None
    sampled_values_per_s: float = 0.0  # logits that sampling looks at on one thread; 0: free
    cache_bytes: int = 0  # of weights that stay in the last-level cache; 0: none that matters
    # By bytes that sweeps use again and again, how fast products of a row read them: from the rate
    # that is in `cached_product_flops` to that of memory. None: all are kept up to `cache_bytes`.
    cache_bytes_per_s: Curve | None = None
    elementwise_bytes_per_s: float = 0.0  # bytes read and written by norms etc.; 0: as memory
    # By name in OPERATIONS (measured_work), by bytes of activations that a call reads and writes.
    operation_bytes_per_s: Mapping[str, Curve] = field(default_factory=dict)
    # By format, by rows; weights from memory, or from the cache.
    product_flops: Mapping[str, Curve] = field(default_factory=dict)
    cached_product_flops: Mapping[str, Curve] = field(default_factory=dict)
    # By format: of a value of the inputs, whatever the number of outputs, and the other way round;
    # rates of products are those of square matrices, whose values are in them.
    product_input_s: Mapping[str, float] = field(default_factory=dict)
    product_output_s: Mapping[str, float] = field(default_factory=dict)
    # By KV format and shape of heads (see attention_rates), by context; visible FLOPs only.
    decode_attention_bytes_per_s: Mapping[str, Curve] = field(default_factory=dict)
    prefill_attention_flops: Mapping[str, Curve] = field(default_factory=dict)
    # By KV format, what is left of decode_attention where the blocks of a layer lie apart; as its
    # rates, how much faster it is where they stay in the last-level cache. 1 if it is not known.
    attention_apart_frac: Mapping[str, float] = field(default_factory=dict)
    attention_cached_speedup: Mapping[str, Curve] = field(default_factory=dict)
    # Values of a recurrent state times rows, by rows of a sequence that move it on together.
    state_values_per_s: Curve | None = None
    quantize_values_per_s: Mapping[str, float] = field(default_factory=dict)  # by format
    dequantize_values_per_s: Mapping[str, float] = field(default_factory=dict)
    memory_by_threads_bytes_per_s: Curve | None = None  # by number of threads
    # By name in THREADED_WORK (there), by number of threads: how much faster than on one.
    thread_speedup: Mapping[str, Curve] = field(default_factory=dict)

    def task_fixed_s(self, moved_bytes: float) -> float:
        """`task_s` of a task with so many bytes of weights and activations.

        They push out of the caches what the engine itself needs, the more of them the more.
        """
        if not self.task_s:
            return 0.0
        known = {TINY_TASK_BYTES: self.tiny_task_s, SMALL_TASK_BYTES: self.task_s}
        if self.cache_bytes > SMALL_TASK_BYTES:
            known[self.cache_bytes] = self.large_task_s
        seconds = (value or self.task_s for value in known.values())
        return Curve(tuple(known), tuple(seconds)).at(moved_bytes)

    def missed_frac(self, used_bytes: float) -> float:
        """The share that comes from memory of what sweeps use again and again."""
        curve = self.cache_bytes_per_s
        if curve is None or curve.rates[0] <= curve.rates[-1]:
            return float(used_bytes > self.cache_bytes)
        cached_s, used_s, missed_s = (
            1 / rate for rate in (curve.rates[0], curve.at(used_bytes), curve.rates[-1])
        )
        return min(max((used_s - cached_s) / (missed_s - cached_s), 0.0), 1.0)

    def product_s(
        self, format: Format, rows: int, weights: float, cached: bool = False, width: int = 0
    ) -> float:
        """Seconds of a product of `rows` rows with `weights` weights, without `kernel_s`.

        `width` is K of its matrices, which have one input; 0: as of those that were measured.
        """
        square_s = 2.0 * weights / self._flops_of(format, rows, cached, width)
        input_s = value_of(self.product_input_s, format)
        output_s = value_of(self.product_output_s, format)
        row_s = with_ends(square_s, input_s, output_s, weights, width)
        return rows * row_s + (self.cached_start_s if cached else self.memory_start_s)

    def _flops_of(self, format: Format, rows: int, cached: bool, width: int) -> float:
        """From the curve for where the weights lie, or from other formats."""
        small = curve_of(self.cached_product_flops, format)
        large = curve_of(self.product_flops, format) or (small if cached else None)
        if large is None:
            return self._product_flops_like_others(format, rows)
        return rate_by_width((small or large).at(rows), large.at(rows), width, cached)

    def _product_flops_like_others(self, format: Format, rows: int) -> float:
        """The roofline, of which as much is reached as by another format that is known."""
        flops = self.roofline_flops(format, rows)
        name, curve = next(iter(self.product_flops.items()), ("", None))
        if curve is None:
            return flops
        return flops * curve.at(rows) / self.roofline_flops(parse_format(name), rows)

    def roofline_flops(self, format: Format, rows: int) -> float:
        """FLOP/s of a product of `rows` rows by memory bandwidth and peak (Williams 2009)."""
        bytes_per_weight = format.matrix_bytes(1 << 12, 1 << 12) / (1 << 24)
        return min(self.peak_flops, 2.0 * rows * self.memory_bytes_per_s / bytes_per_weight)

    def operation_s(self, name: str, size_bytes: float) -> float:
        """Seconds of an elementwise kernel that reads and writes `size_bytes`, without kernel_s."""
        curve = self.operation_bytes_per_s.get(name)
        if curve is not None:
            return size_bytes / curve.at(size_bytes)
        return size_bytes / (self.elementwise_bytes_per_s or self.memory_bytes_per_s)

    def decode_attention_s(
        self,
        format: Format,
        shape: HeadShape,
        context: float,
        kv_bytes: float,
        missed_frac: float = 1.0,
    ) -> float:
        """Seconds in which one row per sequence attends to `kv_bytes` of keys and values.

        `kv_bytes` is what all sequences of the call read in one layer, `context` what each sees,
        `missed_frac` the share that comes from memory and not from the last-level cache.
        """
        curves = self.decode_attention_bytes_per_s
        names = (str(format), *(split_key(key)[0] for key in curves))  # or what others reach
        rates = (attention_rate(curves, name, shape, context) for name in names)
        missed_s = kv_bytes / next(filter(None, rates), self.memory_bytes_per_s)
        faster = attention_rate(self.attention_cached_speedup, str(format), shape, context) or 1.0
        return missed_s * (missed_frac + (1 - missed_frac) / max(faster, 1.0))

    def prefill_attention_s(
        self, format: Format, shape: HeadShape, context: float, flops: float
    ) -> float:
        """Seconds of `flops` (4 x query heads x head_dim for each visible pair of tokens)."""
        curves = self.prefill_attention_flops
        return flops / (attention_rate(curves, str(format), shape, context) or self.peak_flops)
