"""A device for planning: its memory has a size and nothing behind it, its streams do nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from lm_offload.device.base import DeviceMemory, Event, Work
from lm_offload.device.tier import DeviceTier

if TYPE_CHECKING:
    from torch import Tensor

    from lm_offload.kernels.base import Kernels


class NullEvent:
    """Reached from the beginning."""

    def synchronize(self) -> None:
        """See `Event.synchronize`."""

    def elapsed_s(self, since: Event) -> float:
        """See `Event.elapsed_s`."""
        return 0.0


class NullStream:
    """Takes work and does none of it."""

    def launch(self, work: Work) -> None:
        """See `Stream.launch`."""

    def copy_async(self, source: Tensor, target: Tensor) -> None:
        """See `Stream.copy_async`."""

    def record(self) -> NullEvent:
        """See `Stream.record`."""
        return NullEvent()

    def wait(self, event: Event) -> None:
        """See `Stream.wait`."""


class NullDevice:
    """See `Device`; its tensors have shapes and no values."""

    torch_device = torch.device("meta")
    fixed_bytes = 0

    def __init__(self, name: str, memory_bytes: int) -> None:
        self.name = self.model = name
        self._memory_bytes = memory_bytes
        self.compute = self.h2d = self.d2h = NullStream()

    def memory(self) -> DeviceMemory:
        """See `Device.memory`."""
        return DeviceMemory(self._memory_bytes, self._memory_bytes)

    def tier(self, capacity_bytes: int) -> DeviceTier:
        """See `Device.tier`."""
        memory = torch.empty(capacity_bytes, dtype=torch.uint8, device=self.torch_device)
        return DeviceTier(self.name, memory)

    def pin(self, memory: Tensor) -> bool:
        """See `Device.pin`."""
        return True

    def kernels(self, cpu: Kernels) -> Kernels:
        """See `Device.kernels`."""
        return cpu

    def capture(self, work: Work) -> None:
        """See `Device.capture`."""

    def close(self) -> None:
        """See `Device.close`."""
