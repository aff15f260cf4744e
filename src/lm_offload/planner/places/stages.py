"""Places a model on several devices: one stretch of whole layers on each, or several in turn.

::

    units       embed A0 M0 A1 M1 A2 M2 A3 M3 norm head      A, M: attention and MLP of a layer
    stretches   |----- cuda:0 -----|------ cuda:1 -----|     the head is the last one's
    in turn     |- cuda:0 -|cuda:1 |cuda:0 |-- cuda:1 -|

In turn all links bring weights all the time; where none are uploaded that is nothing but more
hidden states sent, and is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from lm_offload.errors import ConfigError
from lm_offload.planner.costs.memory import Sizes
from lm_offload.planner.costs.model_sizes import ModelSizes
from lm_offload.planner.costs.ring_depth import RingDepth
from lm_offload.planner.costs.stage_memory import layer_starts, stage_memory_table
from lm_offload.planner.decided.plan_choice import DeviceChoice
from lm_offload.planner.places.candidate import DevicePlacement
from lm_offload.planner.places.residency import Residency, choose_residency
from lm_offload.planner.request import DeviceBudget, Request

UnitsOf = Sequence[Sequence[int]]  # of each device, ascending


def place_on_stages(
    request: Request, model: ModelSizes, sizes: Sizes, depth: RingDepth
) -> list[DevicePlacement]:
    """The best cut with rings of `depth` units, and the same shares in turn; those that fit."""
    from lm_offload.planner.places.stage_cut import best_cut

    assert request.device is not None
    budgets = request.device.stages
    ends = best_cut(request, model, sizes, depth)
    if ends is None:
        return []
    whole = _placed(model, sizes, budgets, _by_layer(model, _stretches(ends)), depth)
    if whole is not None and not _uploads(model, whole):
        return [whole]
    counts = [stop - start for start, stop in pairwise([0, *ends])]
    turns = _placed(model, sizes, budgets, _by_layer(model, in_turn(counts)), depth)
    return [found for found in (whole, turns) if found is not None]


def in_turn(counts: Sequence[int]) -> list[int]:
    """The device of each layer, each with so many, evenly mixed.

    The first layer is the first device's and the last one the last one's, as where each has one
    stretch: the memory beside their layers is the same.
    """
    last = len(counts) - 1
    places = [
        ((layer + (device / last if last else 0.0)) / count, device)
        for device, count in enumerate(counts)
        for layer in range(count)
    ]
    return [device for _, device in sorted(places)]


def fixed_stages(
    budget: DeviceBudget,
    model: ModelSizes,
    sizes: Sizes,
    choices: Sequence[DeviceChoice],
    resident: frozenset[int],
) -> DevicePlacement:
    """The stages of a plan that was decided; raises ConfigError for a cut that is none."""
    stages = [
        DevicePlacement(
            resident & {*units},
            choice.ring,
            stage_memory_table(model, sizes, part, units),
            units=units,
        )
        for units, choice, part in zip(_begun(model, choices), choices, budget.stages, strict=True)
    ]
    return joined_placement(stages)


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


def _begun(model: ModelSizes, choices: Sequence[DeviceChoice]) -> UnitsOf:
    """The units of each device by the names of those that its stretches begin with."""
    names = [sized.unit.name for sized in model.units]
    device_of = {name: device for device, it in enumerate(choices) for name in it.begins}
    _check_begins(model, choices)
    units: list[list[int]] = [[] for _ in choices]
    device = 0
    for index, name in enumerate(names):
        device = device_of.get(name, device)
        units[device].append(index)
    return units


def _check_begins(model: ModelSizes, choices: Sequence[DeviceChoice]) -> None:
    first = model.units[0].unit.name
    layers = {model.units[unit].unit.name for unit in layer_starts(model) if unit > 1}
    begins = [name for choice in choices for name in choice.begins]
    is_whole = all(choice.begins for choice in choices) and begins[0] == first
    if not is_whole or len({*begins}) < len(begins) or not {*begins[1:]} <= layers:
        raise ConfigError(
            f"In the plan stages begin at {', '.join(begins)}, allowed are {first} and then "
            "later layers, each at its attention and once; change them."
        )


def _stretches(ends: Sequence[int]) -> list[int]:
    """The device of each layer where each device has those up to its end."""
    pairs = enumerate(pairwise([0, *ends]))
    return [device for device, (start, stop) in pairs for _ in range(start, stop)]


def _by_layer(model: ModelSizes, devices: Sequence[int]) -> UnitsOf:
    """The units of each device; what lies before all layers and behind them is with the nearest."""
    starts = layer_starts(model)
    bounds = pairwise([0, *starts[1:], len(model.units)])
    units: list[list[int]] = [[] for _ in range(max(devices) + 1)]
    for device, pair in zip(devices, bounds, strict=True):
        units[device] += range(*pair)
    return units


def _placed(
    model: ModelSizes,
    sizes: Sizes,
    budgets: Sequence[DeviceBudget],
    units: UnitsOf,
    depth: RingDepth,
) -> DevicePlacement | None:
    """Every device with its units, of which as many stay as fit; None where a ring does not."""
    stages = []
    for budget, own in zip(budgets, units, strict=True):
        rows = stage_memory_table(model, sizes, budget, own)
        left_bytes = budget.budget_bytes - sum(size_bytes for _, size_bytes in rows)
        found = _resident(model, own, left_bytes, depth)
        if found is None:
            return None
        stages.append(DevicePlacement(found.resident, found.ring_bytes, rows, units=own))
    return joined_placement(stages)


def _uploads(model: ModelSizes, placed: DevicePlacement) -> bool:
    others = frozenset(range(len(model.units))) - placed.resident
    return any(model.unit_bytes[unit] for unit in others)


def _resident(
    model: ModelSizes, units: Sequence[int], left_bytes: int, depth: RingDepth
) -> Residency | None:
    """What of a stage stays on its device."""
    sizes_bytes = [model.units[unit].size_bytes for unit in units]
    found = choose_residency(sizes_bytes, left_bytes, depth) if left_bytes > 0 else None
    if found is None:
        return None
    return Residency(frozenset(units[index] for index in found.resident), found.ring_bytes)
