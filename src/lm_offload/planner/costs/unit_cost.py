"""Seconds of all units of a model in a sweep: units that are alike are computed once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from lm_offload.hardware.processor import Processor
from lm_offload.kvcache.cache import kv_block_bytes
from lm_offload.planner.costs.model_sizes import ModelSizes, UnitSize
from lm_offload.planner.costs.sweep_shape import SweepShape
from lm_offload.planner.costs.task_cost import MOST_MISSED_FRAC, TaskCosts
from lm_offload.quant.kv_format import BLOCK_TOKENS

_SecondsOf = Callable[[UnitSize, SweepShape, int], float]  # of a unit, with rows of micro-batches


@dataclass(frozen=True)
class UnitCosts:
    """What the units of one model cost on one processor.

    `missed_frac`: the share of the weights that no cache keeps from sweep to sweep.
    """

    model: ModelSizes
    processor: Processor
    missed_frac: float
    _sums: dict[tuple[str, SweepShape, int, str | None], float] = field(
        default_factory=dict, compare=False, repr=False
    )
    _sweeps: dict[tuple[str, SweepShape, int], Sequence[float]] = field(
        default_factory=dict, compare=False, repr=False
    )

    @property
    def cached(self) -> bool:
        """Whether most of what a sweep needs stays in the last-level cache."""
        return self._tasks.cached

    @property
    def keeps_nothing(self) -> bool:
        """Whether no cache keeps any weights from sweep to sweep."""
        return self.missed_frac == 1.0

    def stays(self, shape: SweepShape) -> bool:
        """Whether what the engine needs stays there though units are streamed: all are so small."""
        return self.processor.missed_frac(self.used_bytes(shape)) <= MOST_MISSED_FRAC

    def used_bytes(self, shape: SweepShape) -> float:
        """Weights, keys and values that sweeps like this one use again and again."""
        tokens = sum(piece.sequences * piece.context for piece in shape.pieces)
        return self.model.units_bytes + tokens * self._token_bytes

    @cached_property
    def _token_bytes(self) -> float:
        """Of keys and values."""
        return kv_block_bytes(self.model.config, self.model.kv_format) / BLOCK_TOKENS

    def unit_s(self, shape: SweepShape, micro_batch_tokens: int) -> list[float]:
        """Seconds of each unit in one sweep, all of its micro-batches together."""
        return self._each(self._tasks.unit_s, shape, micro_batch_tokens)

    def without_attention_s(self, shape: SweepShape, micro_batch_tokens: int) -> list[float]:
        """The same without scores and weighted sums."""
        return self._each(self._tasks.rows_s, shape, micro_batch_tokens)

    def attention_s(self, shape: SweepShape, micro_batch_tokens: int) -> list[float]:
        """Scores and weighted sums alone, 0 for all other units."""
        return self._each(self._tasks.attend_s, shape, micro_batch_tokens)

    def total_s(self, shape: SweepShape, micro_batch_tokens: int) -> float:
        """Seconds of all units together."""
        return self._sum(self._tasks.unit_s, shape, micro_batch_tokens)

    def experts_s(self, shape: SweepShape, micro_batch_tokens: int) -> float:
        """Seconds of the experts, which are not among the units."""
        experts = self.model.experts
        if experts is None:
            return 0.0
        most = min(micro_batch_tokens, shape.rows)
        return len(experts.units) * self._tasks.unit_s(experts.example, shape, most)

    def total_fixed_s(self, shape: SweepShape, micro_batch_tokens: int) -> float:
        """What all tasks take whatever their size: Python, for the most part."""
        return self._sum(self._tasks.fixed_s, shape, micro_batch_tokens)

    def total_without_attention_s(self, shape: SweepShape, micro_batch_tokens: int) -> float:
        """The same without scores and weighted sums."""
        return self._sum(self._tasks.rows_s, shape, micro_batch_tokens)

    def total_attention_s(self, shape: SweepShape, micro_batch_tokens: int) -> float:
        """Scores and weighted sums of all units alone."""
        return self._sum(self._tasks.attend_s, shape, micro_batch_tokens)

    def attention_range_s(self, shape: SweepShape, micro_batch_tokens: int) -> tuple[float, float]:
        """The same if every layer took as little as any, and if every one took as much."""
        most = min(micro_batch_tokens, shape.rows)
        each = [
            self._tasks.attend_s(sized, shape, most)
            for sized in self.model.sorts.examples
            if sized.unit.kind == "attention"
        ]
        layers = self.model.config.attention_layers
        return layers * min(each), layers * max(each)

    def total_of_kind_s(self, kind: str, shape: SweepShape, micro_batch_tokens: int) -> float:
        """Seconds of all units of one kind, without scores and weighted sums."""
        return self._sum(self._tasks.rows_s, shape, micro_batch_tokens, kind)

    def some_s(self, rows_of: Mapping[int, int], shape: SweepShape) -> dict[int, float]:
        """Seconds of some units, each with its own most rows of a micro-batch."""
        sorts = self.model.sorts
        kinds = {unit: (sorts.of_units[unit], rows) for unit, rows in rows_of.items()}
        seconds = {
            kind: self._tasks.unit_s(sorts.examples[kind[0]], shape, kind[1])
            for kind in {*kinds.values()}
        }
        return {unit: seconds[kind] for unit, kind in kinds.items()}

    def sum_of_s(self, units: frozenset[int], shape: SweepShape, micro_batch_tokens: int) -> float:
        """Seconds of some units together."""
        return self._some(self._tasks.unit_s, units, shape, micro_batch_tokens)

    def sum_of_attention_s(
        self, units: frozenset[int], shape: SweepShape, micro_batch_tokens: int
    ) -> float:
        """Their scores and weighted sums alone."""
        return self._some(self._tasks.attend_s, units, shape, micro_batch_tokens)

    def _some(
        self, seconds_of: _SecondsOf, units: frozenset[int], shape: SweepShape, most: int
    ) -> float:
        seconds = self._by_sort(seconds_of, shape, most)
        return sum(count * seconds[sort] for sort, count in self.model.sorts.counts_of(units))

    def _each(self, seconds_of: _SecondsOf, shape: SweepShape, most: int) -> list[float]:
        """Of every unit."""
        seconds = self._by_sort(seconds_of, shape, most)
        return [*map(seconds.__getitem__, self.model.sorts.of_units)]

    def _by_sort(self, seconds_of: _SecondsOf, shape: SweepShape, most: int) -> Sequence[float]:
        """Of a unit of each sort, computed once."""
        most = min(most, shape.rows)  # of one micro-batch
        key = seconds_of.__name__, shape, most
        if key not in self._sweeps:
            self._sweeps[key] = [
                seconds_of(sized, shape, most) for sized in self.model.sorts.examples
            ]
        return self._sweeps[key]

    def _sum(
        self, seconds_of: _SecondsOf, shape: SweepShape, most: int, kind: str | None = None
    ) -> float:
        """Of all units, or those of one kind."""
        most = min(most, shape.rows)
        key = seconds_of.__name__, shape, most, kind
        if key not in self._sums:
            self._sums[key] = sum(
                count * seconds_of(sized, shape, most)
                for sized, count in self._counted
                if kind in (None, sized.unit.kind)
            )
        return self._sums[key]

    @cached_property
    def _counted(self) -> Sequence[tuple[UnitSize, int]]:
        """A unit of each sort, and how many there are."""
        sorts = self.model.sorts
        return [(sized, sorts.of_units.count(sort)) for sort, sized in enumerate(sorts.examples)]

    @cached_property
    def _tasks(self) -> TaskCosts:
        return TaskCosts(self.model, self.processor, self.missed_frac)
