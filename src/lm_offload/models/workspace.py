"""Scratch memory of the model functions: one buffer, handed out in order, never allocated."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lm_offload.arch.accounting import WORKSPACE_ALIGNMENT

if TYPE_CHECKING:
    from torch import Tensor


class Workspace:
    """A bump allocator over a flat float32 tensor; the caller resets it before each unit.

    `buffer` should begin at a 64-byte boundary; every view then does.
    """

    def __init__(self, buffer: Tensor) -> None:
        self._buffer = buffer
        self._capacity = buffer.numel()
        self._used = 0
        self.peak = 0  # most floats that were in use at once

    def take(self, *shape: int) -> Tensor:
        """A contiguous uninitialised view of this shape, valid until the next reset."""
        size = math.prod(shape)
        start = self._used
        end = start + -(-size // WORKSPACE_ALIGNMENT) * WORKSPACE_ALIGNMENT
        if end > self._capacity:
            raise RuntimeError(
                f"workspace exhausted: {end} floats wanted for {shape}, {self._capacity} available"
            )
        self._used = end
        self.peak = max(self.peak, end)
        return self._buffer.narrow(0, start, size).view(shape)

    def reset(self) -> None:
        """Take everything back."""
        self._used = 0
