"""How many whole layers the CPU computes where they lie: llama.cpp's -ngl, by predicted time.

Such a layer needs nothing of the device but to pass through in prompts: its keys and values lie in
host memory, too. The room that it leaves takes units that would be uploaded, until none is::

    device   other layers, then MLPs of these          host   these layers, then others
    sweep(n) = max(uploads(n), device(n) + CPU(n))     uploads(most) = 0

Where nothing is uploaded in small sweeps the layers follow one another, and hidden states make one
round trip; where something is, or micro-batches take turns, they are spread over the sweep.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain

from lm_offload.planner.choose.in_place_choice import decode_of, switch_rows, with_rows
from lm_offload.planner.choose.placements import once_by_bytes, placed_on_device
from lm_offload.planner.choose.predictor import Predictor
from lm_offload.planner.costs.device_memory import device_memory_table, host_rows_beside
from lm_offload.planner.costs.memory import Sizes
from lm_offload.planner.costs.model_sizes import ModelSizes
from lm_offload.planner.costs.ring_depth import RingDepth
from lm_offload.planner.lazy import lazy
from lm_offload.planner.places.candidate import Candidate, Memory


def with_layers_in_place(
    predictor: Predictor, model: ModelSizes, sizes: Sizes, depth: RingDepth
) -> Iterator[Candidate]:
    """With as many layers in place as is fastest, if any; those that a user wants to be."""
    device = predictor.request.device
    assert device is not None
    choice = _LayerChoice(predictor, model, sizes, depth)
    found = choice.placed(choice.most())
    if device.in_place is None:
        best = found and choice.fastest(found)
        rows = switch_rows(predictor, best, 0) if best else 0
        if best and rows >= sizes.lanes:
            yield with_rows(predictor, best, rows)
    elif found:
        yield with_rows(predictor, found, max(switch_rows(predictor, found, 0), sizes.lanes))
    else:  # all is on the device, or host memory has no room for a layer
        alone = replace(sizes, in_place_rows=0, in_place_layers=0)
        yield from placed_on_device(predictor, model, alone, depth)


@dataclass(frozen=True)
class _LayerChoice:
    """Places layers in host memory, with memory for the rows of `sizes`."""

    predictor: Predictor
    model: ModelSizes
    sizes: Sizes
    depth: RingDepth

    def most(self) -> int:
        """As many as leave room on the device for all others, and have room in host memory."""
        key = "most layers", self.sizes, self.depth
        return once_by_bytes(self.predictor, self.model, key, self._most)

    def _most(self) -> int:
        layers = self.model.config.num_layers
        if self._upload_nothing(0):
            return 0
        return min(_least(self._upload_nothing, layers), _least(self._fill_host, layers))

    def placed(self, count: int) -> Candidate | None:
        """So many layers in place, in one piece where that leaves nothing to upload."""
        key = "layers", self.sizes, self.depth, count
        return once_by_bytes(self.predictor, self.model, key, lambda: self._in_pieces(count))

    def _in_pieces(self, count: int) -> Candidate | None:
        in_one_piece = self.sizes.lanes <= self.sizes.micro_batch_tokens and self._may_fit(count)
        found = self._placed(count, in_one_piece) if count else None
        if found and in_one_piece and self._uploads(found):
            return self._placed(count, in_one_piece=False)
        return found

    def fastest(self, found: Candidate) -> Candidate:
        """Of `found` and those between one layer and its number, by a sweep of decode."""
        shape = decode_of(self.predictor, self.sizes.lanes)
        others = [other for count in self._balanced(found) if (other := self.placed(count))]
        return min([found, *others], key=lambda it: self.predictor.times(it).steady_s(shape))

    def _balanced(self, found: Candidate) -> list[int]:
        """Where link and processors would end at the same time."""
        shape, one = decode_of(self.predictor, self.sizes.lanes), self.placed(1)
        most = found.sizes.in_place_layers
        if one is None or most == 1:
            return []
        few, many = (self.predictor.times_beside(it).sums(shape) for it in (one, found))
        spare_s, over_s = max(few.h2d_s - few.rows_s, 0.0), many.rows_s - many.h2d_s
        if over_s <= 0:
            return []
        count = 1 + int((most - 1) * spare_s / (spare_s + over_s))
        return [it for it in (count, count + 1) if it < most]

    def _placed(self, count: int, in_one_piece: bool) -> Candidate | None:
        sizes, units = self._with(count), self._units(count, in_one_piece)
        for found in placed_on_device(self.predictor, self.model, sizes, self.depth, units):
            in_memory = units & found.residency.resident
            if units & self.model.attention_units <= in_memory:
                assert found.device is not None
                return replace(found, device=replace(found.device, in_place=in_memory))
        return None

    def _uploads(self, found: Candidate) -> bool:
        """Whether anything moves in a small sweep."""
        assert found.device is not None
        moved = found.uploaded - found.device.in_place
        return any(map(self.model.unit_bytes.__getitem__, moved))

    def _may_fit(self, count: int) -> bool:
        """Whether the device may hold all but so many layers, whatever its ring."""
        return self.model.units_bytes - self._bytes_of(count) <= self._left_bytes(count)

    def _left_bytes(self, count: int) -> int:
        budget = self.predictor.request.device
        assert budget is not None
        return budget.budget_bytes - _sum_of(
            device_memory_table(self.model, self._with(count), budget)
        )

    def _upload_nothing(self, count: int) -> bool:
        kept_bytes = self.model.units_bytes - self._bytes_of(count)
        ring_bytes = self._ring_bytes if count else 0
        return kept_bytes + ring_bytes <= self._left_bytes(count)

    def _fill_host(self, count: int) -> bool:
        """Whether so many leave no room for another, beside a ring and what passes through it."""
        request = self.predictor.request
        table = host_rows_beside(request, self.model, self._with(count + 1))
        taken_bytes = self._bytes_of(count + 1) + 2 * self._ring_bytes + _sum_of(table)
        return taken_bytes > request.budget_bytes

    def _units(self, count: int, in_one_piece: bool = True) -> frozenset[int]:
        """Of the first layers, or of some that are as far apart as can be."""
        every, chosen = self.model.config.num_layers, {*range(count)}
        if not in_one_piece:
            chosen = {(2 * place + 1) * every // (2 * count) for place in range(count)}
        units = self.model.layer_units
        return frozenset(chain.from_iterable(map(units.__getitem__, chosen)))

    def _with(self, count: int) -> Sizes:
        return replace(
            self.sizes, in_place_layers=count, in_place_rows=self.sizes.in_place_rows * (count > 0)
        )

    def _bytes_of(self, count: int) -> int:
        return self.model.first_layers_bytes[count]

    @lazy
    def _ring_bytes(self) -> int:
        return self.depth.largest_bytes(self.model.unit_bytes)


def _least(holds: Callable[[int], bool], most: int) -> int:
    """The least count from which on something holds, at most `most`."""
    return bisect_left(range(most), True, key=holds)


def _sum_of(table: Memory) -> int:
    return sum([size_bytes for _, size_bytes in table])
