"""Products that could run side by side instead of one after the other, and whether that pays.

The operators of a compute task, by levels of its graph; elementwise ones take less than a hand-off
to the threads and are bundled with the product that they follow or precede::

    attention   norm -> q | k | v -> rotary, store, attend -> o          width 3
    mlp         norm -> gate | up -> activation -> down                  width 2

On P threads a level takes the sum of its products, one after the other on all threads, or the
longest of them side by side on P / width threads each: a gain where P is beyond their knee, but
none where memory is what they share. The engine runs them one after the other; the figure says
what that leaves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lm_offload.hardware.measured_work import thread_counts
from lm_offload.hardware.processor import Processor
from lm_offload.plan import Plan
from lm_offload.planner.costs.model_sizes import ModelSizes
from lm_offload.planner.costs.thread_rates import speedup
from lm_offload.planner.costs.unit_work import levels


@dataclass(frozen=True)
class SideBySide:
    """The most products of a level that pay side by side, and what all levels gain by it."""

    width: int
    speedup: float  # of the products of a decode sweep


def side_by_side(model: ModelSizes, cpu: Processor, plan: Plan) -> SideBySide:
    """For the decode sweeps of a plan; `cpu` has the rates of the plan's threads."""
    threads, rows = plan.threads.compute, plan.max_sequences
    cached = not plan.streamed and model.units_bytes <= cpu.cache_bytes
    pace = _Pace(cpu, threads, cached)
    one_by_one_s, beside_s, widest = 0.0, 0.0, 1
    for level in (level for sized in model.units for level in levels(sized.unit)):
        seconds = [
            cpu.product_s(model.weight_format, rows, matrix.weights, cached, matrix.width)
            for matrix in level
        ]
        widths = range(1, min(len(level), threads) + 1)
        known = {width: pace.level_s(seconds, width) for width in widths}
        best = min(known, key=known.__getitem__)
        one_by_one_s, beside_s = one_by_one_s + known[1], beside_s + known[best]
        widest = max(widest, best)
    return SideBySide(widest, one_by_one_s / beside_s)


@dataclass(frozen=True)
class _Pace:
    """How the products of a plan speed up with threads; memory has one rate for all of them."""

    cpu: Processor
    threads: int
    cached: bool

    def level_s(self, seconds: Sequence[float], width: int) -> float:
        """Seconds of a level, `width` products at a time, the longest first."""
        longest_first = sorted(seconds, reverse=True)
        groups = (longest_first[at : at + width] for at in range(0, len(seconds), width))
        return sum(self._group_s(group, width) + self.cpu.kernel_s for group in groups)

    def _group_s(self, seconds: Sequence[float], width: int) -> float:
        alone = self._speedup(self.threads)
        longest_s = seconds[0] * alone / self._speedup(self.threads // width)
        if self.cached:
            return longest_s
        most = max(self._speedup(count) for count in thread_counts(self.threads))
        return max(longest_s, sum(seconds) * alone / most)

    def _speedup(self, threads: int) -> float:
        return speedup(self.cpu, "cached_product_row" if self.cached else "product_row", threads)
