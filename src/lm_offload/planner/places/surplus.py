"""What has no room in any tier, so that every sweep moves it at least."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from lm_offload.planner.costs.device_memory import device_memory_table, host_rows_beside
from lm_offload.planner.costs.memory import Sizes, kv_bytes
from lm_offload.planner.costs.model_sizes import ModelSizes
from lm_offload.planner.costs.stage_memory import even_cut, stage_memory_table
from lm_offload.planner.places.candidate import DevicePlacement, Memory
from lm_offload.planner.places.least_moved import (
    IMPOSSIBLE,
    NOTHING,
    Moved,
    least_moved,
    least_read_s,
    least_upload_s,
)
from lm_offload.planner.places.stages import joined_placement
from lm_offload.planner.request import DeviceBudget, Request

OtherBytes = Callable[[ModelSizes, Sizes, bool], int]  # with a resident table; see `Common`


class Surplus(NamedTuple):
    """What is read and uploaded in each sweep at least; `read` are the bytes of `read_s`.

    `homeless_bytes` are those without a home on the device, uploaded or computed in place, of
    `spared_bytes` fewer where all layers are, and their keys and values with them.
    """

    read: Moved
    read_s: float
    upload_s: float = 0.0
    homeless_bytes: float = 0.0
    spared_bytes: float = 0.0


NO_ROOM = Surplus(IMPOSSIBLE, math.inf, math.inf)


class Homeless(NamedTuple):
    """What has no room on the device, and of that what has none on the host.

    `size_bytes` with no layer in place, `spared_bytes` less with all of them; `upload` is the less.
    """

    size_bytes: float
    spared_bytes: float
    upload: Moved
    read: Moved


def surplus_on_host(
    request: Request, model: ModelSizes, sizes: Sizes, spilled: bool, other_bytes: OtherBytes
) -> Surplus:
    """Without a device; `spilled`: with any layers of the cache on disk."""
    room_bytes = request.budget_bytes - other_bytes(model, sizes, False)
    with_table_bytes = other_bytes(model, sizes, True) + model.table_bytes
    if model.units_bytes + with_table_bytes <= request.budget_bytes:
        return Surplus(NOTHING, 0.0)
    if room_bytes + (kv_bytes(model, sizes) if spilled else 0) <= 0:
        return NO_ROOM
    surplus_bytes = max(model.units_bytes - room_bytes, 0)
    if spilled:
        return Surplus(Moved(surplus_bytes), 0.0)
    moved = least_moved(model, surplus_bytes)
    if moved == IMPOSSIBLE:
        return NO_ROOM
    return Surplus(moved, least_read_s(model, request.profile.disk_read, moved))


def surplus_on_device(request: Request, model: ModelSizes, homeless: Homeless | None) -> Surplus:
    """How long it takes to move that; None is what has no room at all."""
    if homeless is None:
        return NO_ROOM
    assert request.profile.h2d is not None
    read_s = least_read_s(model, request.profile.disk_read, homeless.read)
    upload_s = least_upload_s(model, request.profile.h2d, homeless.upload)
    return Surplus(homeless.read, read_s, upload_s, homeless.size_bytes, homeless.spared_bytes)


def homeless_on_device(request: Request, model: ModelSizes, sizes: Sizes) -> Homeless | None:
    """By bytes alone; None where not even rings fit."""
    device = request.device
    assert device is not None
    layers = model.config.num_layers
    left_bytes = [
        _left_bytes(device.budget_bytes, _device_table(model, option, device))
        for option in _with_layers(sizes, layers)
    ]
    on_device = max(left_bytes)
    on_host = max(
        _left_bytes(request.budget_bytes, host_rows_beside(request, model, option))
        for option in _with_layers(sizes, 1)
    )
    if min(on_device, on_host) <= 0:
        return None
    homeless_bytes = max(model.units_bytes - on_device, 0)
    upload = least_moved(model, homeless_bytes)
    read = least_moved(model, upload.size_bytes - on_host)
    if IMPOSSIBLE in (upload, read):
        return None
    most_bytes = max(model.units_bytes - left_bytes[0], 0)
    return Homeless(most_bytes, left_bytes[-1] - left_bytes[0], upload, read)


def _device_table(model: ModelSizes, sizes: Sizes, device: DeviceBudget) -> Memory:
    """Of several devices what all of them need at least, the cut being open."""
    if not device.stages:
        return device_memory_table(model, sizes, device)
    cuts = zip(device.stages, even_cut(model, len(device.stages)), strict=True)
    tables = (stage_memory_table(model, sizes, *cut) for cut in cuts)
    stages = [DevicePlacement(frozenset(), 0, table) for table in tables]
    return tuple(joined_placement(stages).other_memory)


def _with_layers(sizes: Sizes, count: int) -> list[Sizes]:
    """So many layers in place where their number is open, and none."""
    if not sizes.in_place_layers:
        return [sizes]
    none = replace(sizes, in_place_rows=0, in_place_layers=0)
    return [none, replace(sizes, in_place_layers=count)]


def _left_bytes(budget_bytes: int, table: tuple[tuple[str, int], ...]) -> int:
    return budget_bytes - sum(size_bytes for _, size_bytes in table)
