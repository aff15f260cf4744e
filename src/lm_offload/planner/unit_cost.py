"""Seconds of compute tasks: products, elementwise kernels and attention of one unit.

::

    task = task_s + kernels * call_s            no calls in decode, which is replayed
         + sum over products  2 rows weights / F(format, rows)   of matrices with one input
         + sum over kernels   bytes / B(kernel)
         + attention          KV bytes / B_kv(context)  or  FLOPs / F_kv(context)

All rates come from the profile; docs/performance_model.md says where each term is measured.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from lm_offload.hardware.attention_rates import HeadShape
from lm_offload.hardware.profile import Processor
from lm_offload.planner.request import ModelSizes, UnitSize
from lm_offload.planner.sweep_shape import Piece, SweepShape
from lm_offload.planner.unit_work import Matrix, Operation, levels, operations, visible_tokens
from lm_offload.quant.kv_format import head_bytes

LOOKUPS_OF_PART = 7  # calls of torch in `ResidentRows.gather`
ONCE = ("final_norm", "head")  # in a sweep, whatever its micro-batches
REPLAYED = frozenset({"attention", "mlp"})  # in decode, see pipeline/replay.py
_SecondsOf = Callable[[UnitSize, SweepShape, int], float]  # of a unit, with rows of micro-batches
_Work = tuple[list[list[Matrix]], tuple[Operation, ...]]  # of each product, other kernels


def replaying(processor: Processor) -> Processor:
    """A device where decode asks for no kernel, and each task for one replay."""
    task_s = processor.task_s + processor.replay_s
    return replace(processor, call_s=processor.kernel_s, task_s=task_s)


@dataclass(frozen=True)
class UnitCosts:
    """What the units of one model cost on one processor.

    `cached`: the weights of a whole sweep stay in the last-level cache.
    """

    model: ModelSizes
    processor: Processor
    cached: bool
    _known: dict[tuple[object, ...], float] = field(default_factory=dict, compare=False, repr=False)
    _sweeps: dict[tuple[str, SweepShape, int], list[float]] = field(
        default_factory=dict, compare=False, repr=False
    )
    _works: dict[tuple[str, int], _Work] = field(default_factory=dict, compare=False, repr=False)
    _kernels: dict[tuple[str, int], int] = field(default_factory=dict, compare=False, repr=False)

    def unit_s(self, shape: SweepShape, micro_batch_tokens: int) -> list[float]:
        """Seconds of each unit in one sweep, all of its micro-batches together."""
        return self._each(self._unit_s, shape, micro_batch_tokens)

    def without_attention_s(self, shape: SweepShape, micro_batch_tokens: int) -> list[float]:
        """The same without scores and weighted sums."""
        return self._each(self._rows_s, shape, micro_batch_tokens)

    def attention_s(self, shape: SweepShape, micro_batch_tokens: int) -> list[float]:
        """Scores and weighted sums alone, 0 for all other units."""
        return self._each(self._attend_s, shape, micro_batch_tokens)

    def total_s(self, shape: SweepShape, micro_batch_tokens: int) -> float:
        """Seconds of all units together."""
        return self._sum(self._unit_s, shape, micro_batch_tokens)

    def total_fixed_s(self, shape: SweepShape, micro_batch_tokens: int) -> float:
        """What all tasks take whatever their size: Python, for the most part."""
        return self._sum(self._tasks_s, shape, micro_batch_tokens)

    def total_without_attention_s(self, shape: SweepShape, micro_batch_tokens: int) -> float:
        """The same without scores and weighted sums."""
        return self._sum(self._rows_s, shape, micro_batch_tokens)

    def total_attention_s(self, shape: SweepShape, micro_batch_tokens: int) -> float:
        """Scores and weighted sums of all units alone."""
        return self._sum(self._attend_s, shape, micro_batch_tokens)

    def total_of_kind_s(self, kind: str, shape: SweepShape, micro_batch_tokens: int) -> float:
        """Seconds of all units of one kind, without scores and weighted sums."""
        return self._sum(self._rows_s, shape, micro_batch_tokens, kind)

    def some_s(self, rows_of: Mapping[int, int], shape: SweepShape) -> dict[int, float]:
        """Seconds of some units, each with its own most rows of a micro-batch."""
        kinds = {unit: (self._alike[unit], rows) for unit, rows in rows_of.items()}
        examples = {kind: unit for unit, kind in kinds.items()}
        seconds = {
            kind: self._unit_s(self.model.units[unit], shape, rows_of[unit])
            for kind, unit in examples.items()
        }
        return {unit: seconds[kind] for unit, kind in kinds.items()}

    def _each(self, seconds_of: _SecondsOf, shape: SweepShape, most: int) -> list[float]:
        """Of every unit, computed once for each sort."""
        most = min(most, shape.rows)  # of one micro-batch
        key = seconds_of.__name__, shape, most
        if key not in self._sweeps:
            seconds = {
                alike: seconds_of(sized, shape, most) for alike, sized in self._examples.items()
            }
            self._sweeps[key] = [seconds[alike] for alike in self._alike]
        return [*self._sweeps[key]]

    def _sum(
        self, seconds_of: _SecondsOf, shape: SweepShape, most: int, kind: str | None = None
    ) -> float:
        """Of all units, or those of one kind."""
        most = min(most, shape.rows)
        key = seconds_of.__name__, shape, most, kind
        if key not in self._known:
            self._known[key] = sum(
                self._counts[alike] * seconds_of(sized, shape, most)
                for alike, sized in self._examples.items()
                if kind in (None, sized.unit.kind)
            )
        return self._known[key]

    @cached_property
    def _alike(self) -> list[object]:
        """What the cost of each unit depends on: layers differ in little."""
        layers = self.model.config.layers
        return [
            (
                sized.unit.kind,
                sized.size_bytes,
                sized.unit.kind == "attention" and layers[sized.unit.index].window,
            )
            for sized in self.model.units
        ]

    @cached_property
    def _counts(self) -> Counter[object]:
        """Units of each sort."""
        return Counter(self._alike)

    @cached_property
    def _examples(self) -> dict[object, UnitSize]:
        """One unit of each sort."""
        return dict(zip(self._alike, self.model.units, strict=True))

    def _unit_s(self, sized: UnitSize, shape: SweepShape, micro_batch_tokens: int) -> float:
        seconds = self._rows_s(sized, shape, micro_batch_tokens)
        return seconds + self._attend_s(sized, shape, micro_batch_tokens)

    def _rows_s(self, sized: UnitSize, shape: SweepShape, micro_batch_tokens: int) -> float:
        tasks_s = self._tasks_s(sized, shape, micro_batch_tokens)
        if sized.unit.kind in ONCE:
            return tasks_s + self._kernels_s(sized, shape.logit_rows, self.cached)
        return tasks_s + self._micro_batches_s(sized, shape.rows, micro_batch_tokens)

    def _tasks_s(self, sized: UnitSize, shape: SweepShape, micro_batch_tokens: int) -> float:
        """The fixed part, of each micro-batch."""
        tasks = 1 if sized.unit.kind in ONCE else -(-shape.rows // micro_batch_tokens)
        return tasks * self._fixed_s(sized, shape)

    def _fixed_s(self, sized: UnitSize, shape: SweepShape) -> float:
        """What a task takes whatever its size; decode replays layers without a call of a kernel."""
        processor = self.processor
        if not processor.call_s:
            return (
                processor.task_fixed_s(sized.size_bytes)
                + self._kernels_of(sized) * processor.kernel_s
            )
        replayed = sized.unit.kind in REPLAYED and all(piece.rows == 1 for piece in shape.pieces)
        call_s = processor.call_s * (processor.cached_overhead_frac if self.cached else 1.0)
        return (
            processor.task_fixed_s(sized.size_bytes)
            + (0 if replayed else self._kernels_of(sized)) * call_s
        )

    def _kernels_of(self, sized: UnitSize) -> int:
        key = sized.unit.kind, sized.size_bytes
        if key not in self._kernels:
            products, steps = self._work_of(sized)
            more = {"attention": 1, "embed": self._lookups}
            self._kernels[key] = sum(map(len, products)) + len(steps) + more.get(key[0], 0)
        return self._kernels[key]

    @cached_property
    def _lookups(self) -> int:
        """Calls by which rows are picked from several parts."""
        return LOOKUPS_OF_PART * self._table_parts if self._table_parts > 1 else 0

    @cached_property
    def _table_parts(self) -> int:
        """Parts in which a tied head lies in memory, in each of which all rows are looked for."""
        heads = [sized for sized in self.model.units if sized.unit.kind == "head"]
        return 1 if self.model.table_bytes else max(len(heads), 1)

    def _work_of(self, sized: UnitSize) -> _Work:
        """The same for units alike."""
        key, unit = (sized.unit.kind, sized.size_bytes), sized.unit
        if key not in self._works:
            self._works[key] = levels(unit), operations(self.model.config, unit)
        return self._works[key]

    def _attend_s(self, sized: UnitSize, shape: SweepShape, micro_batch_tokens: int) -> float:
        if sized.unit.kind != "attention":
            return 0.0
        window = self.model.config.layers[sized.unit.index].window
        return sum(self._piece_s(piece, window, micro_batch_tokens) for piece in shape.pieces)

    def _micro_batches_s(self, sized: UnitSize, rows: int, most: int) -> float:
        """All calls but the first find the weights of a small unit in the cache."""
        full, rest = divmod(rows, most)
        seconds = self._kernels_s(sized, min(rows, most), self.cached)
        seconds += max(full - 1, 0) * self._again_s(sized, most)
        return seconds + (self._again_s(sized, rest) if full and rest else 0.0)

    def _again_s(self, sized: UnitSize, rows: int) -> float:
        """A call on a unit that was used just before, by the rows of another micro-batch."""
        first_s = self._kernels_s(sized, rows, self.cached)
        if sized.size_bytes > self.processor.cache_bytes:
            return first_s
        return min(self._kernels_s(sized, rows, cached=True), first_s)

    def _kernels_s(self, sized: UnitSize, rows: int, cached: bool) -> float:
        """The kernels of one task without attention and without what is fixed."""
        key = (sized.unit.kind, sized.size_bytes, rows, cached)
        if key not in self._known:
            self._known[key] = self._work_s(sized, rows, cached)
        return self._known[key]

    def _work_s(self, sized: UnitSize, rows: int, cached: bool) -> float:
        if rows == 0:  # no logits are wanted in this sweep
            return 0.0
        processor, weight_format = self.processor, self.model.weight_format
        products, steps = self._work_of(sized)
        products_s = (
            processor.product_s(weight_format, rows, sum(weights), cached, max(widths))
            for weights, widths in (zip(*level, strict=True) for level in products)
        )
        steps_s = (processor.operation_s(step.name, rows * step.row_bytes) for step in steps)
        parts = self._table_parts if sized.unit.kind == "embed" else 1
        return sum(products_s) + parts * sum(steps_s)

    def _piece_s(self, piece: Piece, window: int | None, most: int) -> float:
        """Scores and weighted sums of one layer."""
        prompt = min(piece.rows, most) > 1
        key = (piece, window, prompt)
        if key not in self._known:
            self._known[key] = self._attention_s(piece, window, prompt)
        return self._known[key]

    def _attention_s(self, piece: Piece, window: int | None, prompt: bool) -> float:
        config, kv_format = self.model.config, self.model.kv_format
        heads = HeadShape(config.head_dim, config.num_heads // config.num_kv_heads)
        pairs = piece.sequences * visible_tokens(piece.rows, piece.context, window)
        seen = pairs / (piece.sequences * piece.rows)
        if prompt:
            flops = 4.0 * config.query_size * pairs
            return self.processor.prefill_attention_s(kv_format, heads, seen, flops)
        kv_bytes = 2 * pairs * config.num_kv_heads * head_bytes(kv_format, config.head_dim)
        return self.processor.decode_attention_s(kv_format, heads, seen, kv_bytes)
