"""Device memory as arenas: one tensor of bytes of exact size, cut like the memory of the host."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lm_offload.storage.arena import take_bytes

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class DeviceArena:
    """A piece of a device's memory; the tensors that the device computes with are views of it."""

    def __init__(self, memory: Tensor) -> None:
        self.size_bytes = memory.numel()
        self._memory = memory

    def slice(self, offset: int, size_bytes: int) -> DeviceArena:
        """A part of this arena."""
        if offset + size_bytes > self.size_bytes:
            raise ValueError(f"{size_bytes} bytes at {offset} in an arena of {self.size_bytes}")
        return DeviceArena(self._memory[offset : offset + size_bytes])

    def view(self, offset: int, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
        """A tensor at `offset` bytes of this arena; the same memory, never a copy."""
        size_bytes = math.prod(shape) * dtype.itemsize
        if offset + size_bytes > self.size_bytes:
            raise ValueError(f"view of {shape} {dtype} at {offset} in {self.size_bytes} bytes")
        return self._memory[offset : offset + size_bytes].view(dtype).view(shape)


class DeviceTier:
    """A capacity in bytes that the arenas taken from it never exceed."""

    def __init__(self, name: str, memory: Tensor) -> None:
        self.name = name
        self.capacity_bytes = memory.numel()
        self.used_bytes = 0
        self._memory = memory

    def allocate(self, purpose: str, size_bytes: int) -> DeviceArena:
        """Memory for `purpose`; raises BudgetError if the tier cannot hold it."""
        rounded_bytes = take_bytes(self, purpose, size_bytes)
        start, self.used_bytes = self.used_bytes, self.used_bytes + rounded_bytes
        return DeviceArena(self._memory[start : self.used_bytes])
