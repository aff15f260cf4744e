"""The part of a decided plan that lies on a device: checked, and added to the host's part."""

from __future__ import annotations

from dataclasses import replace

from lm_offload.errors import BudgetError, ConfigError
from lm_offload.planner.costs.device_memory import device_memory_table, host_rows_beside
from lm_offload.planner.decided.plan_choice import DeviceChoice, PlanChoice
from lm_offload.planner.places.candidate import Candidate, DevicePlacement
from lm_offload.planner.places.residency import Residency
from lm_offload.planner.places.stages import fixed_stages
from lm_offload.planner.request import DeviceBudget, Request
from lm_offload.units import format_bytes


def check_device(request: Request, choice: PlanChoice) -> None:
    """Raises ConfigError where plan and options differ, and for what no device can do."""
    if (choice.device is None) != (request.device is None):
        raise ConfigError(
            "The plan and the options differ in whether a GPU computes; give GPU memory with a "
            "plan that has a device, and only then."
        )
    device = request.device
    wanted = device.attention if device else None
    if choice.device is not None and device is not None:
        _check_names(choice.device, device)
    if choice.device is not None and wanted not in (None, choice.device.attention):
        raise ConfigError(
            f"attention={wanted} was given, the plan computes it on {_places(choice.device)}; "
            "leave one of them out."
        )
    if device and device.in_place == "none" and choice.device and choice.device.in_place:
        raise ConfigError(
            "in_place=none was given, the plan computes units in place on the CPU; leave one of "
            "them out."
        )
    if choice.device is not None:
        _check_split(choice, choice.device)
    if choice.device is not None:
        _check_alone(choice)


def fixed_on_device(request: Request, candidate: Candidate, choice: DeviceChoice) -> Candidate:
    """`candidate` with its device; raises ConfigError or BudgetError for one that cannot hold."""
    assert request.device is not None
    model, sizes, host = candidate.model, candidate.sizes, candidate.residency
    device = _placement(request.device, candidate, choice)
    placed = replace(
        candidate,
        residency=Residency(host.resident - device.resident, host.ring_bytes),
        other_memory=host_rows_beside(request, model, sizes, candidate.table_resident),
        device=device,
    )
    _check_rings(placed)
    parts = zip(device.stages or (device,), choice.each, request.device.each, strict=True)
    for part, chosen, budget in parts:
        _check_budget(placed, part, min(chosen.budget, budget.budget_bytes))
    return placed


def _placement(budget: DeviceBudget, candidate: Candidate, choice: DeviceChoice) -> DevicePlacement:
    """What is named, and units without bytes, on the device or on several."""
    model, sizes, named = candidate.model, candidate.sizes, frozenset(choice.resident)
    resident = frozenset(
        index
        for index, sized in enumerate(model.units)
        if sized.unit.name in named or sized.size_bytes == 0
    )
    if choice.stages:
        return fixed_stages(budget, model, sizes, choice.stages, resident)
    memory = device_memory_table(model, sizes, budget)
    return DevicePlacement(resident, choice.ring, memory, _in_place(candidate, choice))


def _check_split(choice: PlanChoice, on_device: DeviceChoice) -> None:
    """Of a KV cache in both memories."""
    both, blocks = on_device.attention == "both", on_device.kv_blocks
    if both != bool(blocks) or blocks >= choice.kv_blocks:
        raise ConfigError(
            f"In the plan kv_blocks of the device is {blocks} with attention {on_device.attention},"
            f" allowed are 1 to {choice.kv_blocks - 1}, less than kv_blocks of the plan, with both,"
            " and 0 elsewhere; change it."
        )
    if both and (on_device.in_place or on_device.stages):
        raise ConfigError(
            "In the plan attention is both, allowed then are one device and nothing in place; "
            "change it."
        )


def _places(choice: DeviceChoice) -> str:
    return "both" if choice.attention == "both" else f"the {choice.attention}"


def _check_names(choice: DeviceChoice, device: DeviceBudget) -> None:
    planned, given = ([it.name for it in found.each] for found in (choice, device))
    if len(planned) != len(given):
        raise ConfigError(
            f"The plan is for {len(planned)} device(s) and {len(given)} were given; give as many, "
            "or leave the plan or the devices out."
        )
    if planned != given:
        raise ConfigError(
            f"The plan is for {', '.join(planned)}, given was {', '.join(given)}; change name in "
            "the plan, or give the device that it names."
        )


def _check_alone(choice: PlanChoice) -> None:
    """What there is without a device only."""
    for name, value in (
        ("draft_rows", choice.draft_rows),
        ("kv_on_disk", [*choice.kv_on_disk]),
    ):
        if value:
            raise ConfigError(
                f"In the plan {name} is {value}, allowed beside a device is {type(value)()}; "
                "change it."
            )


def _in_place(candidate: Candidate, choice: DeviceChoice) -> frozenset[int]:
    """What the CPU computes of a choice; raises ConfigError for what it cannot."""
    allowed = {
        sized.unit.name: index
        for index, sized in enumerate(candidate.model.units)
        if index in candidate.residency.resident and sized.unit.kind in ("attention", "mlp")
    }
    found = frozenset(allowed[name] for name in choice.in_place if name in allowed)
    most = candidate.sizes.sweep_tokens
    if len(found) < len(choice.in_place):
        raise ConfigError(
            f"In the plan in_place is {list(choice.in_place)}, allowed are attention and MLPs that "
            "are resident in CPU memory; change it."
        )
    if choice.in_place_rows > most or bool(found) != bool(choice.in_place_rows):
        raise ConfigError(
            f"In the plan in_place_rows is {choice.in_place_rows}, allowed are 1 to {most} rows "
            "where units are computed in place, and 0 elsewhere; change it."
        )
    return found


def _check_rings(candidate: Candidate) -> None:
    """Each ring takes the largest unit that passes through it; the host's, those at the start."""
    device = candidate.device
    assert device is not None
    through = [
        ("ring", candidate.residency.ring_bytes, candidate.streamed | device.resident),
        *(
            ("device ring", part.ring_bytes, candidate.uploaded_to(part))
            for part in device.stages or (device,)
        ),
    ]
    for name, ring_bytes, units in through:
        largest_bytes = max((candidate.model.units[unit].size_bytes for unit in units), default=0)
        if ring_bytes < largest_bytes:
            raise ConfigError(
                f"In the plan {name} is {format_bytes(ring_bytes)}, allowed is at least "
                f"{format_bytes(largest_bytes)} ({largest_bytes} bytes), the largest unit that "
                "passes through it; change it."
            )


def _check_budget(candidate: Candidate, part: DevicePlacement, budget_bytes: int) -> None:
    memory = candidate.memory_on(part)
    used_bytes = sum(size_bytes for _, size_bytes in memory)
    if used_bytes > budget_bytes:
        rows = "".join(f"\n  {name:<22}{format_bytes(n)}" for name, n in memory)
        raise BudgetError(
            f"The plan takes {format_bytes(used_bytes)} of the device, the budget is "
            f"{format_bytes(budget_bytes)}; upload more units or raise the budget:{rows}"
        )
