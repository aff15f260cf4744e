"""What is taken first for a plan with devices, of which everything else there is made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from lm_offload.device.base import Device
from lm_offload.device_plan import DevicePlan
from lm_offload.engine.device_side import DeviceSide, load_device, open_planned
from lm_offload.engine.machinery import on_threads, store_of
from lm_offload.engine.model_files import ModelFiles
from lm_offload.engine.pinned_memory import HostMemory, host_memory
from lm_offload.engine.residents import LoadProgress, load_resident
from lm_offload.kernels.base import Kernels
from lm_offload.pipeline.upload import Uploader
from lm_offload.plan import Plan
from lm_offload.storage.arena import Arena
from lm_offload.storage.weight_store import WeightStore

SideOf = Callable[[DevicePlan, Device, Uploader], DeviceSide]


@dataclass(frozen=True)
class DeviceParts:
    """The memory of all tiers, and the weights that lie there; one side for each device."""

    plan: Plan
    files: ModelFiles
    sides: Sequence[DeviceSide]
    store: WeightStore
    memory: HostMemory
    kernels: Kernels  # of the CPU

    @property
    def side(self) -> DeviceSide:
        """Of the only device."""
        [side] = self.sides
        return side

    @property
    def host(self) -> dict[str, Arena]:
        """The arenas of host memory."""
        return self.memory.arenas

    @property
    def devices(self) -> tuple[Device, ...]:
        """In order of stages."""
        return tuple(side.device for side in self.sides)


def take_parts(
    files: ModelFiles,
    plan: Plan,
    kernels: Kernels,
    on_load: LoadProgress,
    side_of: SideOf,
    undo: ExitStack,
) -> DeviceParts:
    """Open the devices, take the memory of all tiers, load what stays.

    `undo` gives back what an error leaves behind; `side_of` takes the memory of one device.
    """
    assert plan.device is not None
    planned, devices = plan.device.stages or (plan.device,), []
    for on_device in planned:
        devices.append(open_planned(on_device))
        undo.callback(devices[-1].close)
    memory = host_memory(plan, devices)
    sides = [side_of(*each) for each in zip(planned, devices, memory.uploaders, strict=True)]
    store = store_of(files, plan, memory.arenas["staging ring"])
    undo.callback(store.close)
    load_resident(store, plan, files, memory.arenas["resident weights"], on_load)
    for side in sides:
        load_device(files, plan, store, side)
    return DeviceParts(plan, files, sides, store, memory, on_threads(kernels, plan))
