"""Places one choice of sizes on three tiers: what fits on the device, then what fits on the host.

A byte on the device saves its upload and its read, a byte on the host its read; units are alike
within a tier, so each level is filled as full as it gets and spread evenly over the sweep. Where
the CPU may compute MLPs, these come last on the device and first on the host.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lm_offload.plan import AttentionOn, ComputedOn
from lm_offload.planner.candidate import Candidate, DevicePlacement, read_block_bytes
from lm_offload.planner.device_memory import device_memory_table, host_rows_beside
from lm_offload.planner.memory import Sizes
from lm_offload.planner.ordered_residency import choose_in_order
from lm_offload.planner.request import DeviceBudget, ModelSizes, Request
from lm_offload.planner.residency import Residency, choose_residency
from lm_offload.planner.stages import place_on_stages


def attention_choices(device: DeviceBudget) -> tuple[AttentionOn, ...]:
    """Where attention may be computed."""
    return (device.attention,) if device.attention else ("device", "cpu", "both")


def mlp_choices(device: DeviceBudget) -> tuple[ComputedOn, ...]:
    """Where MLPs in host memory may be computed in sweeps of few rows."""
    return (device.mlp,) if device.mlp else ("device", "cpu")


def place_on_device(
    request: Request, model: ModelSizes, sizes: Sizes, depth: int
) -> list[Candidate]:
    """These sizes with rings of `depth` units; empty if that does not fit both budgets."""
    assert request.device is not None
    assert request.profile.h2d is not None
    if request.device.stages:
        on_device = place_on_stages(request, model, sizes, depth)
    else:
        on_device = _on_device(model, sizes, depth, request.device)
    if on_device is None:
        return []
    rows = host_rows_beside(request, model, sizes)
    left_bytes = request.budget_bytes - sum(size_bytes for _, size_bytes in rows)
    first = _mlps(model) if sizes.in_place_rows else None
    on_host = _on_host(model, on_device.resident, first, depth, left_bytes)
    if on_host is None:
        return []
    disk = request.profile.disk_read
    candidate = Candidate(
        model=model,
        sizes=sizes,
        ring_depth=depth,
        residency=on_host,
        table_resident=False,
        other_memory=rows,
        read_block_bytes=read_block_bytes(disk),
        read_concurrency=disk.concurrency,
        threads=request.default_threads,
        device=on_device,
    )
    return [candidate]


def _on_device(
    model: ModelSizes, sizes: Sizes, depth: int, budget: DeviceBudget
) -> DevicePlacement | None:
    rows = device_memory_table(model, sizes, budget)
    left_bytes = budget.budget_bytes - sum(size_bytes for _, size_bytes in rows)
    unit_bytes = [unit.size_bytes for unit in model.units]
    rest = frozenset(range(len(unit_bytes))) - _mlps(model)
    found = _chosen(unit_bytes, rest if sizes.in_place_rows else None, left_bytes, depth)
    return DevicePlacement(found.resident, found.ring_bytes, rows) if found else None


def _on_host(
    model: ModelSizes,
    on_device: frozenset[int],
    first: frozenset[int] | None,
    depth: int,
    left_bytes: int,
) -> Residency | None:
    """Of the units not on the device; those that are pass through the ring at the start."""
    others = [unit for unit in range(len(model.units)) if unit not in on_device]
    unit_bytes = [model.units[unit].size_bytes for unit in others]
    load_bytes = max((model.units[unit].size_bytes for unit in on_device), default=0)
    if first is not None:
        first = frozenset(index for index, unit in enumerate(others) if unit in first)
    found = _chosen(unit_bytes, first, left_bytes, depth)
    if found is not None and found.ring_bytes < load_bytes:
        found = _chosen(unit_bytes, first, left_bytes - load_bytes, depth)
        found = found and replace(found, ring_bytes=max(found.ring_bytes, load_bytes))
    if found is None:
        return None
    return replace(found, resident=frozenset(others[index] for index in found.resident))


def _chosen(
    unit_bytes: Sequence[int], first: frozenset[int] | None, left_bytes: int, depth: int
) -> Residency | None:
    """Spread evenly, or some before all others."""
    if left_bytes <= 0:
        return None
    if first is None:
        return choose_residency(unit_bytes, left_bytes, depth)
    return choose_in_order(unit_bytes, first, left_bytes, depth)


def _mlps(model: ModelSizes) -> frozenset[int]:
    units = enumerate(model.units)
    return frozenset(index for index, sized in units if sized.unit.kind == "mlp")
