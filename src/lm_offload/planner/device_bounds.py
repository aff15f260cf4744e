"""Lower bounds where a device computes: three tiers, each with no more than it must do.

::

    sweep >= max(units on the device and, where it attends, the CPU + overhead + download,
                 bytes without room on the device / fastest upload,
                 bytes without room on either / fastest read)
"""

from __future__ import annotations

import math
from typing import NamedTuple

from lm_offload.planner.device_memory import (
    device_memory_table,
    host_memory_table,
    upload_block_bytes,
)
from lm_offload.planner.in_place_bounds import in_place_sweep_s
from lm_offload.planner.memory import Sizes
from lm_offload.planner.predictor import Predictor
from lm_offload.planner.request import ModelSizes, Request
from lm_offload.planner.sweep_shape import SweepShape


class Surplus(NamedTuple):
    """Bytes of weights for which there is no room; infinite where there is none for a ring."""

    read_bytes: float
    upload_bytes: float = 0.0


NO_ROOM = Surplus(math.inf, math.inf)


def surplus_on_device(request: Request, model: ModelSizes, sizes: Sizes) -> Surplus:
    """What is read and what is uploaded in each sweep at least."""
    device, link = request.device, request.profile.h2d
    assert device is not None
    assert link is not None
    block_bytes = upload_block_bytes(model, link.block_bytes)
    on_device = _left_bytes(device.budget_bytes, device_memory_table(model, sizes, device))
    host_table = host_memory_table(model, sizes, False, block_bytes)
    on_host = _left_bytes(request.budget_bytes, host_table)
    if min(on_device, on_host) <= 0:
        return NO_ROOM
    upload_bytes = max(model.units_bytes - on_device, 0)
    return Surplus(max(upload_bytes - on_host, 0), upload_bytes)


def device_sweep_s(
    predictor: Predictor, model: ModelSizes, sizes: Sizes, shape: SweepShape, surplus: Surplus
) -> float:
    """What a sweep takes at least."""
    profile = predictor.request.profile
    assert profile.h2d is not None
    disk_s = surplus.read_bytes / max(profile.disk_read.bytes_per_s.rates)
    if shape.rows <= sizes.in_place_rows:
        moved = shape, surplus.upload_bytes
        return max(in_place_sweep_s(predictor, model, sizes, *moved), disk_s)
    rows_s = predictor.least_device_times(model, sizes).steady(shape).total_s
    h2d_s = surplus.upload_bytes / max(profile.h2d.bytes_per_s.rates)
    return max(rows_s, h2d_s, disk_s)


def _left_bytes(budget_bytes: int, table: tuple[tuple[str, int], ...]) -> int:
    return budget_bytes - sum(size_bytes for _, size_bytes in table)
