"""Seconds of all units of a model in a sweep: units that are alike are computed once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from lm_offload.hardware.profile import Processor
from lm_offload.planner.model_sizes import ModelSizes, UnitSize
from lm_offload.planner.sweep_shape import SweepShape
from lm_offload.planner.task_cost import TaskCosts

_SecondsOf = Callable[[UnitSize, SweepShape, int], float]  # of a unit, with rows of micro-batches


@dataclass(frozen=True)
class UnitCosts:
    """What the units of one model cost on one processor.

    `cached`: the weights of a whole sweep stay in the last-level cache.
    """

    model: ModelSizes
    processor: Processor
    cached: bool
    _sums: dict[tuple[str, SweepShape, int, str | None], float] = field(
        default_factory=dict, compare=False, repr=False
    )
    _sweeps: dict[tuple[str, SweepShape, int], list[float]] = field(
        default_factory=dict, compare=False, repr=False
    )

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
            for sized in self._examples.values()
            if sized.unit.kind == "attention"
        ]
        layers = self.model.config.num_layers
        return layers * min(each), layers * max(each)

    def total_of_kind_s(self, kind: str, shape: SweepShape, micro_batch_tokens: int) -> float:
        """Seconds of all units of one kind, without scores and weighted sums."""
        return self._sum(self._tasks.rows_s, shape, micro_batch_tokens, kind)

    def some_s(self, rows_of: Mapping[int, int], shape: SweepShape) -> dict[int, float]:
        """Seconds of some units, each with its own most rows of a micro-batch."""
        kinds = {unit: (self._alike[unit], rows) for unit, rows in rows_of.items()}
        examples = {kind: unit for unit, kind in kinds.items()}
        seconds = {
            kind: self._tasks.unit_s(self.model.units[unit], shape, rows_of[unit])
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
        if key not in self._sums:
            self._sums[key] = sum(
                self._counts[alike] * seconds_of(sized, shape, most)
                for alike, sized in self._examples.items()
                if kind in (None, sized.unit.kind)
            )
        return self._sums[key]

    @cached_property
    def _tasks(self) -> TaskCosts:
        return TaskCosts(self.model, self.processor, self.cached)

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
