"""Places one choice of sizes on three tiers: what fits on the device, then what fits on the host.

A byte on the device saves its upload and its read, a byte on the host its read; units are alike
within a tier, so each level is filled as full as it gets and spread evenly over the sweep. What
the CPU may compute in place comes last on the device and first on the host.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

from lm_offload.device_plan import AttentionOn, InPlaceKind
from lm_offload.planner.costs.device_memory import device_memory_table, host_rows_beside
from lm_offload.planner.costs.memory import Sizes
from lm_offload.planner.costs.model_sizes import ModelSizes
from lm_offload.planner.costs.ring_depth import RingDepth
from lm_offload.planner.places.candidate import Candidate, DevicePlacement
from lm_offload.planner.places.host_placement import candidate_with
from lm_offload.planner.places.ordered_residency import choose_in_order
from lm_offload.planner.places.residency import Residency, choose_residency
from lm_offload.planner.places.stages import place_on_stages
from lm_offload.planner.request import DeviceBudget, Request


def attention_choices(device: DeviceBudget) -> tuple[AttentionOn, ...]:
    """Where attention may be computed."""
    return (device.attention,) if device.attention else ("device", "cpu", "both")


def in_place_choices(device: DeviceBudget) -> tuple[InPlaceKind, ...]:
    """What of host memory the CPU may compute in sweeps of few rows."""
    return (device.in_place,) if device.in_place else get_args(InPlaceKind)


def place_on_device(
    request: Request,
    model: ModelSizes,
    sizes: Sizes,
    depth: RingDepth,
    host_first: frozenset[int] = frozenset(),
) -> list[Candidate]:
    """These sizes with rings of `depth` units; empty if that does not fit both budgets.

    Units `host_first` come first in host memory and last on the device.
    """
    assert request.device is not None
    assert request.profile.h2d is not None
    if request.device.stages:
        found = place_on_stages(request, model, sizes, depth)
    else:
        found = _on_device(model, sizes, depth, request.device, host_first)
    placed = (_beside(request, model, sizes, depth, on_device, host_first) for on_device in found)
    return [candidate for candidate in placed if candidate is not None]


def _beside(
    request: Request,
    model: ModelSizes,
    sizes: Sizes,
    depth: RingDepth,
    on_device: DevicePlacement,
    host_first: frozenset[int],
) -> Candidate | None:
    """With the host's part of what the device does not hold."""
    rows = host_rows_beside(request, model, sizes)
    left_bytes = request.budget_bytes - sum(size_bytes for _, size_bytes in rows)
    on_host = _on_host(model, on_device.resident, host_first, depth, left_bytes)
    if on_host is None:
        return None
    found = candidate_with(request, model, sizes, depth, on_host, rows)
    return replace(found, device=on_device)


def _on_device(
    model: ModelSizes, sizes: Sizes, depth: RingDepth, budget: DeviceBudget, last: frozenset[int]
) -> list[DevicePlacement]:
    """Attention of the units that come `last` is uploaded: its keys and values are not here."""
    rows = device_memory_table(model, sizes, budget)
    left_bytes = budget.budget_bytes - sum(size_bytes for _, size_bytes in rows)
    every, away = frozenset(range(len(model.units))), last & model.attention_units
    ring_bytes = sum(sorted(map(model.unit_bytes.__getitem__, away))[-depth.units :])
    first = every - last if last else last
    found = _some_of(model, sorted(every - away), first, depth, left_bytes, ring_bytes)
    return [DevicePlacement(found.resident, found.ring_bytes, rows)] if found else []


def _on_host(
    model: ModelSizes,
    on_device: frozenset[int],
    first: frozenset[int],
    depth: RingDepth,
    left_bytes: int,
) -> Residency | None:
    """Of the units not on the device; those that are pass through the ring at the start."""
    others = [unit for unit in range(len(model.units)) if unit not in on_device]
    load_bytes = max(map(model.unit_bytes.__getitem__, on_device), default=0)
    return _some_of(model, others, first, depth, left_bytes, load_bytes)


def _some_of(
    model: ModelSizes,
    units: Sequence[int],
    first: frozenset[int],
    depth: RingDepth,
    left_bytes: int,
    least_ring_bytes: int,
) -> Residency | None:
    """Which of some units stay, with a ring for others, too."""
    unit_bytes = [*map(model.unit_bytes.__getitem__, units)]
    if first:
        first = frozenset([index for index, unit in enumerate(units) if unit in first])
    found = _chosen(unit_bytes, first, left_bytes, depth)
    if found is not None and found.ring_bytes < least_ring_bytes:
        found = _beside_ring(unit_bytes, first, left_bytes, depth, found, least_ring_bytes)
    if found is None:
        return None
    return replace(found, resident=frozenset(map(units.__getitem__, found.resident)))


def _beside_ring(
    unit_bytes: Sequence[int],
    first: frozenset[int],
    left_bytes: int,
    depth: RingDepth,
    found: Residency,
    ring_bytes: int,
) -> Residency | None:
    """Fewer units than `found`, whose ring is too small; none where only the ring fits."""
    missing_bytes = ring_bytes - found.ring_bytes
    only_ring_bytes = sum(sorted(unit_bytes)[-depth.units :])
    for budget_bytes in (left_bytes - missing_bytes, left_bytes - ring_bytes, only_ring_bytes):
        fewer = _chosen(unit_bytes, first, budget_bytes, depth)
        if fewer is None:
            continue
        whole = replace(fewer, ring_bytes=max(fewer.ring_bytes, ring_bytes))
        if sum(map(unit_bytes.__getitem__, whole.resident)) + whole.ring_bytes <= left_bytes:
            return whole
    return None


def _chosen(
    unit_bytes: Sequence[int], first: frozenset[int], left_bytes: int, depth: RingDepth
) -> Residency | None:
    """Spread evenly, or some before all others."""
    if left_bytes <= 0:
        return None
    if not first:
        return choose_residency(unit_bytes, left_bytes, depth)
    return choose_in_order(unit_bytes, first, left_bytes, depth)


def mlps(model: ModelSizes) -> frozenset[int]:
    """Indices of the units with an MLP."""
    units = enumerate(model.units)
    return frozenset(index for index, sized in units if sized.unit.kind == "mlp")
