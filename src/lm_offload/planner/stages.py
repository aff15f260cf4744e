"""Places a model on several devices: a stage of whole layers on each.

::

    units     embed A0 M0 A1 M1 A2 M2 A3 M3 norm head      A, M: attention and MLP of a layer
    stages    |----- cuda:0 -----|------ cuda:1 -----|     the head is the last one's
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from lm_offload.errors import ConfigError
from lm_offload.planner.candidate import DevicePlacement
from lm_offload.planner.memory import Sizes
from lm_offload.planner.plan_choice import DeviceChoice
from lm_offload.planner.request import DeviceBudget, ModelSizes, Request
from lm_offload.planner.residency import Residency, choose_residency
from lm_offload.planner.stage_memory import layer_starts, stage_memory_table


def place_on_stages(
    request: Request, model: ModelSizes, sizes: Sizes, depth: int
) -> DevicePlacement | None:
    """The best cut with rings of `depth` units; None if it does not fit the budgets."""
    from lm_offload.planner.stage_cut import best_cut

    assert request.device is not None
    budgets = request.device.stages
    ends = best_cut(request, model, sizes, depth)
    if ends is None:
        return None
    firsts = [0, *(layer_starts(model)[end] for end in ends[:-1]), len(model.units)]
    stages = []
    for budget, pair in zip(budgets, pairwise(firsts), strict=True):
        units = range(*pair)
        rows = stage_memory_table(model, sizes, budget, units)
        left_bytes = budget.budget_bytes - sum(size_bytes for _, size_bytes in rows)
        found = _resident(model, units, left_bytes, depth)
        if found is None:
            return None
        stages.append(DevicePlacement(found.resident, found.ring_bytes, rows, units=units))
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
                units=units,
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


def _resident(model: ModelSizes, units: range, left_bytes: int, depth: int) -> Residency | None:
    """What of a stage stays on its device."""
    sizes_bytes = [model.units[unit].size_bytes for unit in units]
    found = choose_residency(sizes_bytes, left_bytes, depth) if left_bytes > 0 else None
    if found is None:
        return None
    return Residency(frozenset(units[index] for index in found.resident), found.ring_bytes)
