"""How many MLPs the CPU computes where they lie, and up to how many rows that pays.

A unit in place takes its upload from the link and its products from the device to the CPU. The link
works on the others meanwhile, so that the best number makes both end at once::

    sweep(n) = max(uploads - n u,  device + n d)       u: of one unit, d: what it costs in place

Prefill and decode differ (FlexInfer, MLSys'25): of few rows a unit takes the CPU one pass over its
weights, so `d < u` where memory is faster than the link; of many rows it takes arithmetic. Up to
which rows it pays, the switch point, comes from the same predicted sweeps.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from lm_offload.planner.choose.predictor import Predictor
from lm_offload.planner.costs.device_memory import host_rows_beside
from lm_offload.planner.costs.memory import Sizes
from lm_offload.planner.costs.sweep_shape import Piece, SweepShape
from lm_offload.planner.lazy import lazy
from lm_offload.planner.places.candidate import Candidate
from lm_offload.planner.sweeps.device_time import DeviceSweepTimes
from lm_offload.planner.sweeps.mean_sweeps import mean_decode
from lm_offload.planner.values import values_of

MOST_ROWS = 256  # of a sweep in place: memory is set aside for as many


def reserved_rows(sizes: Sizes) -> int:
    """Rows that memory is set aside for while the switch point is not known."""
    return min(sizes.sweep_tokens, max(MOST_ROWS, sizes.lanes))


def with_mlps_in_place(predictor: Predictor, candidate: Candidate) -> Iterator[Candidate]:
    """The same with as many MLPs in place as is fastest, if any; those that a user wants to be."""
    device = predictor.request.device
    assert device is not None
    choice, is_open = _MlpChoice(predictor, candidate), device.in_place is None
    rows, count = choice.few_rows() if is_open else (candidate.sizes.lanes, len(choice.homes))
    if count:
        chosen = choice.placed(count)
        most = switch_rows(predictor, chosen, rows if is_open else 0)
        yield with_rows(predictor, chosen, most if is_open else max(most, rows))
    elif not is_open:  # there is nothing to compute in place
        yield with_rows(predictor, candidate, 0)


@dataclass(frozen=True)
class _MlpChoice:
    """Times a candidate with some of its MLPs in place; each number of them is placed once."""

    predictor: Predictor
    candidate: Candidate
    _known: dict[int, Candidate] = field(default_factory=dict)

    @lazy
    def homes(self) -> Sequence[int]:
        """The units that may be computed in place."""
        units, found = self.candidate.model.units, sorted(self.candidate.residency.resident)
        return [it for it in found if units[it].unit.kind == "mlp"]

    def few_rows(self) -> tuple[int, int]:
        """Rows of a sweep with as many sequences as gain by units in place, and how many units."""
        rows = self.candidate.sizes.lanes if self.homes else 0
        while rows:
            if count := self._best_count(rows):
                return rows, count
            rows //= 2
        return 0, 0

    def _best_count(self, rows: int) -> int:
        """Of units, for sweeps of so many rows; 0 where moving all is as fast."""
        shape, most = decode_of(self.predictor, rows), len(self.homes)
        moved, every = (self._times(count).sums(shape) for count in (0, most))
        per_unit_s = (moved.h2d_s - every.h2d_s + every.rows_s - moved.rows_s) / most
        spare_s = moved.h2d_s - moved.rows_s - moved.overhead_s
        balanced = int(max(spare_s, 0.0) / per_unit_s) if per_unit_s > 0 else most
        counts = sorted({0, min(balanced, most), min(balanced + 1, most), most})
        return min(counts, key=lambda count: self._times(count).steady_s(shape))

    def _times(self, count: int) -> DeviceSweepTimes:
        return self.predictor.times_beside(self.placed(count))

    def placed(self, count: int) -> Candidate:
        """With so many in place, as far apart as can be."""
        if count not in self._known:
            device, units = self.candidate.device, _spread(self.homes, count)
            assert device is not None
            placed = replace(device, in_place=units)
            self._known[count] = replace(self.candidate, device=placed)
        return self._known[count]


def switch_rows(predictor: Predictor, chosen: Candidate, least: int) -> int:
    """The most rows, from `least` on, of which a sweep is faster with units in place."""
    most, in_place = chosen.sizes.in_place_rows, predictor.times_beside(chosen)
    moved = DeviceSweepTimes(**values_of(in_place, DeviceSweepTimes))
    grid = sorted({least, *(1 << power for power in range(most.bit_length())), most})
    grid = grid[grid.index(least) :]

    def loses(rows: int) -> bool:
        shape = decode_of(predictor, rows)
        return in_place.steady_s(shape) >= moved.steady_s(shape)

    return grid[bisect_left(grid, True, lo=1, key=loses) - 1]


def decode_of(predictor: Predictor, rows: int) -> SweepShape:
    """So many rows of as many sequences, at the middle of their growth."""
    context = mean_decode(predictor.request.workload, 1).shape.pieces[0].context
    return SweepShape((Piece(rows, 1, context),), rows)


def _spread(homes: Sequence[int], count: int) -> frozenset[int]:
    """As far apart as can be."""
    return frozenset(homes[(2 * place + 1) * len(homes) // (2 * count)] for place in range(count))


def with_rows(predictor: Predictor, candidate: Candidate, rows: int) -> Candidate:
    """With memory for no more rows than that."""
    if rows == candidate.sizes.in_place_rows:
        return candidate
    request, model = predictor.request, candidate.model
    sizes = replace(candidate.sizes, in_place_rows=rows)
    memory = host_rows_beside(request, model, sizes, candidate.table_resident)
    return replace(candidate, sizes=sizes, other_memory=memory)
