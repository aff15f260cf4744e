"""Host memory that uploads to devices come from: pinned as it is, or staged where it cannot be."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from lm_offload.device.base import Device
from lm_offload.pipeline.upload import Uploader, staging_buffers
from lm_offload.plan import Plan
from lm_offload.planner.costs.device_memory import UPLOADS_IN_FLIGHT
from lm_offload.storage.arena import Arena, MemoryTier

log = logging.getLogger(__name__)

HOST_ARENAS = (  # on the link, but for the workspace
    *("staging ring", "resident weights", "logits", "attention exchange"),
    *("hidden states", "workspace"),
)


@dataclass(frozen=True)
class HostMemory:
    """What a plan with devices takes of host memory but for keys and values."""

    tiers: tuple[MemoryTier, ...]  # the one of the arenas, and staging buffers behind it
    arenas: dict[str, Arena]
    uploaders: list[Uploader]  # one for each device


def host_memory(plan: Plan, devices: Sequence[Device]) -> HostMemory:
    """Pinned arenas, or pageable ones with a pinned stage, or what the driver makes of neither."""
    sizes = dict(plan.memory)
    part_bytes = sizes["upload staging"] // len(devices)
    block_bytes = part_bytes // UPLOADS_IN_FLIGHT
    names = [name for name in HOST_ARENAS if name in sizes]
    tier = MemoryTier("CPU", sum(sizes[name] for name in names))
    arenas = {name: tier.allocate(name, sizes[name]) for name in names}
    pinned = [device.pin(tier.whole()) for device in devices]
    if all(pinned):
        uploaders = [Uploader(device.h2d, block_bytes) for device in devices]
        return HostMemory((tier,), arenas, uploaders)
    stages = tuple(MemoryTier("CPU", part_bytes) for _ in devices)
    pairs = zip(devices, stages, strict=True)
    uploaders = [_staged(device, stage.whole(), block_bytes) for device, stage in pairs]
    return HostMemory((tier, *stages), arenas, uploaders)


def _staged(device: Device, staging: Tensor, block_bytes: int) -> Uploader:
    """Through buffers of its own, where the system pins at least these."""
    pinned = device.pin(staging)
    log.warning(
        "The system refuses to pin the memory of the weights; uploads %s. Raise the limit of "
        "locked memory (ulimit -l).",
        "are copied once more on the way" if pinned else "run at about half the speed of the link",
    )
    buffers = staging_buffers(staging, UPLOADS_IN_FLIGHT) if pinned else None
    return Uploader(device.h2d, block_bytes, buffers)
