"""Cuts a model into stages, one for each of several devices, so that the slowest is fastest.

::

    units     embed A0 M0 A1 M1 A2 M2 A3 M3 norm head      A, M: attention and MLP of a layer
    stages    |----- cuda:0 -----|------ cuda:1 -----|     whole layers; the head is the last one's

A stage takes as long as it computes, or as its device is sent what it has no room for. Of all
cuts the one is taken whose slowest stage takes least (a linear partition).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from lm_offload.errors import ConfigError
from lm_offload.planner.candidate import DevicePlacement
from lm_offload.planner.device_memory import device_memory_table
from lm_offload.planner.mean_sweeps import MeanSweeps, mean_decode, mean_prefill
from lm_offload.planner.memory import Sizes, kv_bytes
from lm_offload.planner.plan_text import DeviceChoice
from lm_offload.planner.request import DeviceBudget, ModelSizes, Request
from lm_offload.planner.residency import Residency, choose_residency
from lm_offload.planner.unit_cost import UnitCosts
from lm_offload.units import align_up

Rows = tuple[tuple[str, int], ...]  # purpose, bytes
CostOf = Callable[[int, int, int], float]  # of a stage with the layers from, up to but without


def place_on_stages(
    request: Request, model: ModelSizes, sizes: Sizes, depth: int
) -> DevicePlacement | None:
    """The best cut with rings of `depth` units; None if it does not fit the budgets."""
    assert request.device is not None
    budgets = request.device.stages
    costs = _Costs(request, model, sizes, depth, budgets)
    ends = balanced(costs.seconds, len(costs.starts), len(budgets))
    if ends is None:
        return None
    stages = []
    for budget, units in zip(budgets, costs.units_of(ends), strict=True):
        rows = stage_memory_table(model, sizes, budget, units)
        found = _resident(model, units, budget.budget_bytes - _sum(rows), depth)
        if found is None:
            return None
        stages.append(DevicePlacement(found.resident, found.ring_bytes, rows, units))
    return joined_placement(stages)


def fixed_stages(
    budget: DeviceBudget,
    model: ModelSizes,
    sizes: Sizes,
    choices: Sequence[DeviceChoice],
    resident: frozenset[int],
) -> DevicePlacement:
    """The stages of a plan that was decided; raises ConfigError for a cut that is none."""
    names = [sized.unit.name for sized in model.units]
    firsts = [names.index(choice.begins) if choice.begins in names else -1 for choice in choices]
    layers = [unit for unit in layer_starts(model) if unit > 1]
    if firsts[0] != 0 or firsts != sorted({*firsts}) or not {*firsts[1:]} <= {*layers}:
        raise ConfigError(
            f"In the plan stages begin at {', '.join(choice.begins for choice in choices)}, "
            f"allowed are {names[0]} and then later layers in order, each at its attention; change "
            "them."
        )
    ranges = [range(*pair) for pair in pairwise([*firsts, len(names)])]
    return joined_placement(
        [
            DevicePlacement(
                resident & {*units},
                choice.ring,
                stage_memory_table(model, sizes, part, units),
                units,
            )
            for units, choice, part in zip(ranges, choices, budget.stages, strict=True)
        ]
    )


def joined_placement(stages: Sequence[DevicePlacement]) -> DevicePlacement:
    """All stages as one, bytes of one purpose summed."""
    purposes = dict.fromkeys(name for stage in stages for name, _ in stage.other_memory)
    tables = [dict(stage.other_memory) for stage in stages]
    return DevicePlacement(
        frozenset().union(*(stage.resident for stage in stages)),
        sum(stage.ring_bytes for stage in stages),
        tuple((name, sum(table.get(name, 0) for table in tables)) for name in purposes),
        stages=tuple(stages),
    )


def stage_memory_table(model: ModelSizes, sizes: Sizes, budget: DeviceBudget, units: range) -> Rows:
    """Everything on the device of a stage but weights and ring: the KV cache of its layers, and
    logits only behind the last one."""
    layers = sum(model.units[unit].unit.kind == "attention" for unit in units)
    cache_bytes = align_up(kv_bytes(model, sizes) // model.config.num_layers * layers)
    changed = {"KV cache": cache_bytes}
    if units.stop < len(model.units):
        changed["logits"] = 0
    rows = ((name, changed.get(name, n)) for name, n in device_memory_table(model, sizes, budget))
    return tuple((name, size_bytes) for name, size_bytes in rows if size_bytes)


def even_cut(model: ModelSizes, stages: int) -> list[range]:
    """Stages of as many layers each, as far as that goes."""
    starts = layer_starts(model)
    firsts = [starts[stage * len(starts) // stages] for stage in range(1, stages)]
    return [range(*pair) for pair in pairwise([0, *firsts, len(model.units)])]


def layer_starts(model: ModelSizes) -> list[int]:
    """The units with which layers begin."""
    units = enumerate(model.units)
    return [index for index, sized in units if sized.unit.kind == "attention"]


def balanced(seconds: CostOf, layers: int, stages: int) -> tuple[int, ...] | None:
    """Where each stage ends so that the slowest is as fast as can be; None if no cut fits.

    Every stage has a layer at least. O(stages layers^2).
    """
    if stages > layers:
        return None
    best: Mapping[int, tuple[float, tuple[int, ...]]] = {0: (0.0, ())}
    for stage in range(stages):
        left = stages - 1 - stage  # stages behind it
        ends = range(stage + 1, layers - left + 1) if left else [layers]
        best = {
            end: min(
                (max(slowest_s, seconds(stage, start, end)), (*cuts, end))
                for start, (slowest_s, cuts) in best.items()
                if start < end
            )
            for end in ends
        }
    slowest_s, cuts = best[layers]
    return cuts if slowest_s < math.inf else None


@dataclass(frozen=True)
class _Phase:
    """Sweeps that are alike, and the seconds of all units before each one in such a sweep."""

    sweeps: float
    before_s: Sequence[float]


class _Costs:
    """Seconds of possible stages, from sums over the units before each layer."""

    def __init__(
        self,
        request: Request,
        model: ModelSizes,
        sizes: Sizes,
        depth: int,
        budgets: Sequence[DeviceBudget],
    ) -> None:
        self.starts = layer_starts(model)
        self._units = len(model.units)
        self._ring_bytes = sum(sorted(unit.size_bytes for unit in model.units)[-depth:])
        self._before_bytes = _before(unit.size_bytes for unit in model.units)
        self._layer_bytes = kv_bytes(model, sizes) // model.config.num_layers
        self._left_bytes = [
            [b.budget_bytes - _sum(stage_memory_table(model, sizes, b, r)) for r in self._nothing()]
            for b in budgets
        ]
        assert request.profile.h2d is not None
        self._bytes_per_s = max(request.profile.h2d.bytes_per_s.rates)
        self._phases = [*_phases(request, model, sizes)]

    def units_of(self, ends: Sequence[int]) -> list[range]:
        """The units of stages that end with these layers; the first has the embedding, too."""
        firsts = [0, *(self._first(end) for end in ends)]
        return [range(*pair) for pair in pairwise(firsts)]

    def seconds(self, stage: int, start: int, end: int) -> float:
        """Of all sweeps of a wave; infinite where not even a ring fits."""
        first, stop = self._first(start) if start else 0, self._first(end)
        size_bytes = self._before_bytes[stop] - self._before_bytes[first]
        room_bytes = (
            self._left_bytes[stage][stop == self._units] - (end - start) * self._layer_bytes
        )
        upload_s = 0.0
        if size_bytes > room_bytes:
            room_bytes -= self._ring_bytes
            if room_bytes < 0:
                return math.inf
            upload_s = (size_bytes - room_bytes) / self._bytes_per_s
        return sum(
            phase.sweeps * max(phase.before_s[stop] - phase.before_s[first], upload_s)
            for phase in self._phases
        )

    def _first(self, layer: int) -> int:
        return self.starts[layer] if layer < len(self.starts) else self._units

    def _nothing(self) -> tuple[range, range]:
        """No layers, without and with the end of the model."""
        return range(0), range(self._units, self._units)


def _phases(request: Request, model: ModelSizes, sizes: Sizes) -> list[_Phase]:
    assert request.profile.gpu is not None
    costs, workload = UnitCosts(model, request.profile.gpu, cached=False), request.workload
    count = min(sizes.max_sequences, len(workload.prompt_lens))
    means: list[MeanSweeps] = [
        mean_prefill(workload, sizes, count),
        mean_decode(workload, count),
    ]
    return [
        _Phase(mean.sweeps, _before(costs.unit_s(mean.shape, sizes.micro_batch_tokens)))
        for mean in means
        if mean.sweeps
    ]


def _resident(model: ModelSizes, units: range, left_bytes: int, depth: int) -> Residency | None:
    """What of a stage stays on its device."""
    sizes_bytes = [model.units[unit].size_bytes for unit in units]
    found = choose_residency(sizes_bytes, left_bytes, depth) if left_bytes > 0 else None
    if found is None:
        return None
    return Residency(frozenset(units[index] for index in found.resident), found.ring_bytes)


def _before(values: Iterable[float]) -> list[float]:
    """Sums of all values before each, and of all."""
    return [*accumulate(values, initial=0)]


def _sum(rows: Rows) -> int:
    return sum(size_bytes for _, size_bytes in rows)
