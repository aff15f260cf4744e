"""Lower bounds where a device computes: three tiers, each with no more than it must do.

::

    sweep >= max(units on the device and, where it attends, the CPU + overhead + download,
                 bytes without room on the device / fastest upload,
                 bytes without room on either / fastest read)
"""

from __future__ import annotations

import math
from typing import NamedTuple

from lm_offload.planner.candidate import DevicePlacement, Memory
from lm_offload.planner.device_memory import device_memory_table, host_rows_beside
from lm_offload.planner.memory import Sizes
from lm_offload.planner.predictor import Predictor
from lm_offload.planner.request import DeviceBudget, ModelSizes, Request
from lm_offload.planner.stage_memory import even_cut, stage_memory_table
from lm_offload.planner.stages import joined_placement
from lm_offload.planner.sweep_shape import SweepShape


class Surplus(NamedTuple):
    """Bytes of weights for which there is no room; infinite where there is none for a ring."""

    read_bytes: float
    upload_bytes: float = 0.0


NO_ROOM = Surplus(math.inf, math.inf)


def surplus_on_device(request: Request, model: ModelSizes, sizes: Sizes) -> Surplus:
    """What is read and what is uploaded in each sweep at least."""
    device = request.device
    assert device is not None
    on_device = _left_bytes(device.budget_bytes, _device_table(model, sizes, device))
    on_host = _left_bytes(request.budget_bytes, host_rows_beside(request, model, sizes))
    if min(on_device, on_host) <= 0:
        return NO_ROOM
    upload_bytes = max(model.units_bytes - on_device, 0)
    return Surplus(max(upload_bytes - on_host, 0), upload_bytes)


def device_sweep_s(
    predictor: Predictor, model: ModelSizes, sizes: Sizes, shape: SweepShape, surplus: Surplus
) -> float:
    """What a sweep takes at least; several devices share it evenly at best."""
    profile, device = predictor.request.profile, predictor.request.device
    assert profile.h2d is not None
    assert device is not None
    rows_s = predictor.least_device_times(model, sizes).steady(shape).total_s / len(device.each)
    h2d_s = surplus.upload_bytes / max(profile.h2d.bytes_per_s.rates) / len(device.each)
    return max(rows_s, h2d_s, surplus.read_bytes / max(profile.disk_read.bytes_per_s.rates))


def _device_table(model: ModelSizes, sizes: Sizes, device: DeviceBudget) -> Memory:
    """Of several devices what all of them need at least, the cut being open."""
    if not device.stages:
        return device_memory_table(model, sizes, device)
    cuts = zip(device.stages, even_cut(model, len(device.stages)), strict=True)
    tables = (stage_memory_table(model, sizes, *cut) for cut in cuts)
    stages = [DevicePlacement(frozenset(), 0, table) for table in tables]
    return tuple(joined_placement(stages).other_memory)


def _left_bytes(budget_bytes: int, table: tuple[tuple[str, int], ...]) -> int:
    return budget_bytes - sum(size_bytes for _, size_bytes in table)
