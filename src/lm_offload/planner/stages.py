"""Cuts a model into stages, one for each of several devices, so that the slowest is fastest.

::

    units     embed A0 M0 A1 M1 A2 M2 A3 M3 norm head      A, M: attention and MLP of a layer
    stages    |----- cuda:0 -----|------ cuda:1 -----|     whole layers; the head is the last one's

A stage takes as long as it computes, or as its device is sent what it has no room for. Of all
cuts the one is taken whose slowest stage takes least (a linear partition).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lm_offload.errors import ConfigError
from lm_offload.planner.candidate import DevicePlacement
from lm_offload.planner.device_memory import device_memory_table
from lm_offload.planner.mean_sweeps import mean_decode, mean_prefill
from lm_offload.planner.memory import Sizes, kv_bytes
from lm_offload.planner.plan_text import DeviceChoice
from lm_offload.planner.request import DeviceBudget, ModelSizes, Request
from lm_offload.planner.residency import Residency, choose_residency
from lm_offload.planner.unit_cost import UnitCosts
from lm_offload.units import align_up

Rows = tuple[tuple[str, int], ...]  # purpose, bytes
Seconds = NDArray[np.float64]


def place_on_stages(
    request: Request, model: ModelSizes, sizes: Sizes, depth: int
) -> DevicePlacement | None:
    """The best cut with rings of `depth` units; None if it does not fit the budgets."""
    assert request.device is not None
    budgets = request.device.stages
    ends = balanced(_seconds(request, model, sizes, depth))
    if ends is None:
        return None
    firsts = [0, *(layer_starts(model)[end] for end in ends[:-1]), len(model.units)]
    stages = []
    for budget, pair in zip(budgets, pairwise(firsts), strict=True):
        units = range(*pair)
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


def balanced(seconds: Seconds) -> tuple[int, ...] | None:
    """The layers with which stages end so that the slowest is as fast as can be.

    seconds[stages, layers + 1, layers + 1] of each stage from one layer up to another; infinite
    where it does not fit. None where no cut fits.
    """
    best_s = np.full(seconds.shape[1], np.inf)  # of all layers before each, on the devices so far
    best_s[0] = 0.0
    starts = []
    for stage_s in seconds:
        slowest_s = np.maximum(best_s[:, None], stage_s)
        starts.append(slowest_s.argmin(axis=0))
        best_s = slowest_s.min(axis=0)
    if best_s[-1] == np.inf:
        return None
    ends = [len(best_s) - 1]
    for start in reversed(starts[1:]):
        ends.append(int(start[ends[-1]]))
    return tuple(reversed(ends))


def _seconds(request: Request, model: ModelSizes, sizes: Sizes, depth: int) -> Seconds:
    """Of every possible stage in all sweeps of a wave: its computes, or its uploads if longer."""
    assert request.device is not None
    assert request.profile.h2d is not None
    bytes_per_s = max(request.profile.h2d.bytes_per_s.rates)
    room = _room_bytes(request.device, model, sizes)
    size_bytes = _between(model, [unit.size_bytes for unit in model.units])
    ring_bytes = sum(sorted(unit.size_bytes for unit in model.units)[-depth:])
    over_bytes = size_bytes - (room - ring_bytes)
    upload_s = np.where(size_bytes <= room, 0.0, over_bytes / bytes_per_s)
    fits = (size_bytes <= room) | (room >= ring_bytes)
    seconds = sum(
        sweeps * np.maximum(_between(model, unit_s), upload_s)
        for sweeps, unit_s in _phases(request, model, sizes)
    )
    layers = np.arange(size_bytes.shape[0])
    return np.where(fits & (layers[:, None] < layers), seconds, np.inf)


def _room_bytes(device: DeviceBudget, model: ModelSizes, sizes: Sizes) -> NDArray[Any]:
    """What every possible stage leaves to weights on each device, [stages, from, to]."""
    count, units = model.config.num_layers, len(model.units)
    layers = np.arange(count + 1)
    cache_bytes = kv_bytes(model, sizes) // count * (layers - layers[:, None])
    nothing = range(0), range(units, units)  # no layers, without and with the end of the model
    left_bytes = [
        [part.budget_bytes - _sum(stage_memory_table(model, sizes, part, it)) for it in nothing]
        for part in device.stages
    ]
    is_last = np.where(layers == count, 1, 0)
    return np.array(left_bytes)[:, None, is_last] - cache_bytes


def _between(model: ModelSizes, values: Sequence[float]) -> NDArray[Any]:
    """Sums over the units from one layer up to another, with what lies before all and behind."""
    before = np.array([0, *accumulate(values)])
    starts = layer_starts(model)
    return before[[*starts, len(values)]] - before[[0, *starts[1:], len(values)]][:, None]


def _phases(
    request: Request, model: ModelSizes, sizes: Sizes
) -> Iterator[tuple[float, Sequence[float]]]:
    """How many sweeps, and the seconds of units in each."""
    assert request.profile.gpu is not None
    costs, workload = UnitCosts(model, request.profile.gpu, cached=False), request.workload
    count = min(sizes.max_sequences, len(workload.prompt_lens))
    for mean in (mean_prefill(workload, sizes, count), mean_decode(workload, count)):
        if mean.sweeps:
            yield mean.sweeps, costs.unit_s(mean.shape, sizes.micro_batch_tokens)


def _resident(model: ModelSizes, units: range, left_bytes: int, depth: int) -> Residency | None:
    """What of a stage stays on its device."""
    sizes_bytes = [model.units[unit].size_bytes for unit in units]
    found = choose_residency(sizes_bytes, left_bytes, depth) if left_bytes > 0 else None
    if found is None:
        return None
    return Residency(frozenset(units[index] for index in found.resident), found.ring_bytes)


def _sum(rows: Rows) -> int:
    return sum(size_bytes for _, size_bytes in rows)
