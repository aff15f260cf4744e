"""A device that is none: host memory plays its memory, threads its streams, a pause its link.

It runs the whole three-tier pipeline where there is no GPU, with the host's own kernels, so that
tokens are those of the CPU to the bit. Copies are as slow as the link that is asked for, half as
fast from and to memory that is not pinned, as between two stand-ins, which is by way of the host.
What is launched really runs beside the caller, so a dependency that is missing shows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from lm_offload.device.base import DeviceMemory, Work
from lm_offload.device.tier import DeviceTier
from lm_offload.device.worker_stream import WorkerStream
from lm_offload.storage.arena import MemoryTier

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.kernels.base import Kernels

PAGEABLE_FRAC = 0.5  # of the link's rate, where host memory is not pinned


class StandInGraph:
    """See `Graph`."""

    def __init__(self, work: Work) -> None:
        self._work = work

    def replay(self) -> None:
        """See `Graph.replay`."""
        self._work()


class StandIn:
    """See `Device`. `pins=False` refuses to pin, as a system may."""

    torch_device = torch.device("cpu")
    fixed_bytes = 0

    def __init__(self, name: str, memory_bytes: int, bytes_per_s: float, pins: bool = True) -> None:
        self.name = self.model = name
        self._memory_bytes = memory_bytes
        self._bytes_per_s = bytes_per_s
        self._pins = pins
        self._pinned: list[range] = []
        self._used_bytes = 0
        self._tiers: list[MemoryTier] = []
        self.compute = WorkerStream(f"{name} compute", self._pace)
        self.h2d = WorkerStream(f"{name} h2d", self._pace)
        self.d2h = WorkerStream(f"{name} d2h", self._pace)

    def memory(self) -> DeviceMemory:
        """See `Device.memory`."""
        return DeviceMemory(self._memory_bytes - self._used_bytes, self._memory_bytes)

    def tier(self, capacity_bytes: int) -> DeviceTier:
        """See `Device.tier`."""
        tier = MemoryTier(self.name, capacity_bytes)
        self._tiers.append(tier)
        self._used_bytes += tier.capacity_bytes
        arena = tier.allocate("device memory", tier.capacity_bytes)
        return DeviceTier(self.name, arena.view(0, torch.uint8, (arena.size_bytes,)))

    def pin(self, memory: Tensor) -> bool:
        """See `Device.pin`."""
        if self._pins:
            self._pinned.append(_addresses(memory))
        return self._pins

    def kernels(self, cpu: Kernels) -> Kernels:
        """See `Device.kernels`."""
        return cpu

    def capture(self, work: Work) -> StandInGraph:
        """See `Device.capture`; only a replay of the same call, on the tensors that it holds."""
        return StandInGraph(work)

    def close(self) -> None:
        """See `Device.close`."""
        for stream in (self.compute, self.h2d, self.d2h):
            stream.close()
        self._pinned.clear()
        for tier in self._tiers:  # whoever still holds a view of it, as a GPU does
            tier.release()
        self._tiers.clear()
        self._used_bytes = 0

    def _pace(self, source: Tensor, target: Tensor) -> float:
        pinned = any(self._is_pinned(memory) for memory in (source, target))
        return self._bytes_per_s * (1.0 if pinned else PAGEABLE_FRAC)

    def _is_pinned(self, memory: Tensor) -> bool:
        return any(memory.data_ptr() in addresses for addresses in self._pinned)


def _addresses(memory: Tensor) -> range:
    return range(memory.data_ptr(), memory.data_ptr() + memory.nbytes)
