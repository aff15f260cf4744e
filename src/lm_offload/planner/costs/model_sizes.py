"""A model as the planner sees it: bytes of its units in one format, and what follows from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, chain

from lm_offload.arch.config import ModelConfig
from lm_offload.arch.weight_spec import DOWN, LAYER_KINDS
from lm_offload.arch.weights import Unit, WeightSpec, attention_units
from lm_offload.planner.costs.expert_sizes import ExpertSizes
from lm_offload.planner.costs.unit_sorts import UnitSorts, sorts_of
from lm_offload.quant.format import Format, format_of_dtype

ONCE = ("final_norm", "head")  # kinds that compute once in a sweep, whatever its micro-batches


@dataclass(frozen=True)
class UnitSize:
    """One unit as the planner sees it: its memory in the layout of its files."""

    unit: Unit
    size_bytes: int
    parts: tuple[UnitSize, ...] = ()  # of a model that can be cut: see arch/halves.py


@dataclass(frozen=True)
class ModelSizes:
    """A model whose matrices are stored in one format."""

    config: ModelConfig
    weight_format: Format  # of matrices; vectors and row tables keep the checkpoint's own dtype
    units: Sequence[UnitSize]
    table_bytes: int  # of an embedding table that could be resident, 0 where it is tied
    kv_wanted: Format | None = None  # of keys and values; None is the checkpoint's own precision
    experts: ExpertSizes | None = None  # which are not among the units

    @cached_property
    def kv_format(self) -> Format:
        """Of keys and values in the cache."""
        return self.kv_wanted or format_of_dtype(self.config.dtype)

    @cached_property
    def cut(self) -> ModelSizes | None:
        """The same model with MLPs of two units each, if it has them so."""
        parts = [part for sized in self.units for part in sized.parts]
        return replace(self, units=parts) if parts else None

    @cached_property
    def is_cut(self) -> bool:
        """Whether MLPs are two units each."""
        return any(sized.unit.kind == DOWN for sized in self.units)

    @property
    def weight_bytes(self) -> int:
        """Bytes of the tensors of all units; row tables are not among them."""
        return sum(
            spec_bytes(spec, self.weight_format, self.config)
            for sized in self.with_experts
            for spec in sized.unit.loaded
        )

    @property
    def with_experts(self) -> Iterator[UnitSize]:
        """All units, the experts last."""
        return chain(self.units, self.experts.units if self.experts else ())

    @cached_property
    def attention_units(self) -> frozenset[int]:
        """Indices of the units with attention."""
        return attention_units(sized.unit for sized in self.units)

    @cached_property
    def once_in_sweep(self) -> Sequence[bool]:
        """Of each unit, whether it computes once in a sweep, whatever its micro-batches."""
        return [sized.unit.kind in ONCE for sized in self.units]

    @cached_property
    def unit_bytes(self) -> Sequence[int]:
        """Memory of each unit."""
        return [unit.size_bytes for unit in self.units]

    @cached_property
    def sorts(self) -> UnitSorts:
        """Which units cost the same."""
        attends = [(layer.window, layer.kv_shape) for layer in self.config.layers]
        return sorts_of(self.units, attends)

    @cached_property
    def layer_units(self) -> Sequence[Sequence[int]]:
        """Indices of the units of each layer."""
        found: list[list[int]] = [[] for _ in range(self.config.num_layers)]
        for index, sized in enumerate(self.units):
            if sized.unit.kind in LAYER_KINDS:
                found[sized.unit.index].append(index)
        return found

    @cached_property
    def first_layers_bytes(self) -> Sequence[int]:
        """Memory of the first layers, by their number from 0 on."""
        layers = (sum(self.units[it].size_bytes for it in units) for units in self.layer_units)
        return [*accumulate(layers, initial=0)]

    @cached_property
    def largest_bytes(self) -> int:
        """Memory of the largest unit."""
        return max(self.unit_bytes)

    @cached_property
    def largest(self) -> frozenset[int]:
        """The index of the largest unit."""
        return frozenset({self.unit_bytes.index(self.largest_bytes)})

    @cached_property
    def least_of_layers_bytes(self) -> int:
        """Memory of the smallest unit of any layer."""
        return min(self.unit_bytes[unit] for units in self.layer_units for unit in units)

    @cached_property
    def units_bytes(self) -> int:
        """Memory of all units and experts, as they are laid out."""
        return sum(self.unit_bytes) + (self.experts.total_bytes if self.experts else 0)

    @property
    def least_ring_bytes(self) -> int:
        """What has to be staged of a model with nothing in memory: a unit, and an expert."""
        return self.largest_bytes + (self.experts.largest_bytes if self.experts else 0)

    def format_of(self, unit: Unit) -> Format:
        """Of the matrices of a unit."""
        taken = any(spec.takes(self.weight_format) for spec in unit.loaded)
        return self.weight_format if taken else format_of_dtype(self.config.dtype)

    def sizes_of(self, units: frozenset[int]) -> Mapping[int, int]:
        """Memory of some units, in order of use."""
        if units not in self._sizes_by_units:
            self._sizes_by_units[units] = {it: self.unit_bytes[it] for it in sorted(units)}
        return self._sizes_by_units[units]

    @cached_property
    def _sizes_by_units(self) -> dict[frozenset[int], Mapping[int, int]]:
        return {}

    def bytes_of_kind(self, kind: str) -> int:
        """Memory of all units of one kind."""
        return self._bytes_by_kind.get(kind, 0)

    @cached_property
    def _bytes_by_kind(self) -> Mapping[str, int]:
        found = Counter[str]()
        for sized in self.units:
            found[sized.unit.kind] += sized.size_bytes
        return found

    @cached_property
    def bytes_up_to(self) -> Mapping[int, int]:
        """Memory of all units of a size or a smaller one, by size, the smallest first."""
        sizes = sorted(unit.size_bytes for unit in self.with_experts if unit.size_bytes)
        return dict(zip(sizes, accumulate(sizes), strict=True))  # of equal ones the last counts

    @cached_property
    def matrix_shapes(self) -> frozenset[tuple[int, int]]:
        """Rows and columns of all matrices, as they are multiplied with."""
        return frozenset((spec.view_shape[0], spec.shape[1]) for spec in self._matrices)

    @cached_property
    def most_columns(self) -> int:
        """Of the widest matrix."""
        return max(spec.shape[1] for spec in self._matrices)

    @cached_property
    def most_rows(self) -> int:
        """Of the tallest matrix, as it is multiplied with."""
        return max(spec.view_shape[0] for spec in self._matrices)

    @cached_property
    def most_elements(self) -> int:
        """Of the largest matrix."""
        return max(spec.elements for spec in self._matrices)

    @cached_property
    def _matrices(self) -> Sequence[WeightSpec]:
        examples = (*self.sorts.examples, *([self.experts.example] if self.experts else []))
        specs = (spec for sized in examples for spec in sized.unit.loaded)
        return [spec for spec in specs if spec.is_matrix]

    @cached_property
    def bytes_by_name(self) -> Mapping[str, int]:
        """The size of each unit and expert."""
        return {sized.unit.name: sized.size_bytes for sized in self.with_experts}


def spec_bytes(spec: WeightSpec, weight_format: Format, config: ModelConfig) -> int:
    """Bytes of one tensor: a matrix in its format, others in the checkpoint's own dtype."""
    if spec.takes(weight_format):
        return weight_format.matrix_bytes(*spec.view_shape)
    return spec.elements * config.itemsize
