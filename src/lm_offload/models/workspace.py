"""Scratch memory of the model functions: one buffer, handed out in order, never allocated."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lm_offload.arch.accounting import WORKSPACE_ALIGNMENT

if TYPE_CHECKING:
    from torch import Tensor

_MAX_VIEWS = 1024


class Workspace:
    """A bump allocator over a flat float32 tensor; the caller resets it before each unit.

    `buffer` should begin at a 64-byte boundary; every view then does. Views are kept for the
    next sweep: making one costs several microseconds, and decode asks for the same ones again.
    """

    def __init__(self, buffer: Tensor) -> None:
        self.peak = 0  # most floats that were in use at once
        self._buffer = buffer
        self._used = 0
        self._views: dict[tuple[int, tuple[int, ...]], tuple[Tensor, int]] = {}

    def take(self, *shape: int) -> Tensor:
        """A contiguous uninitialised view of this shape, valid until the next reset."""
        key = (self._used, shape)
        view, self._used = self._views.get(key) or self._make(key)
        return view

    def reset(self) -> None:
        """Take everything back."""
        self._used = 0

    def _make(self, key: tuple[int, tuple[int, ...]]) -> tuple[Tensor, int]:
        start, shape = key
        size, capacity = math.prod(shape), self._buffer.numel()
        end = start + -(-size // WORKSPACE_ALIGNMENT) * WORKSPACE_ALIGNMENT
        if end > capacity:
            raise RuntimeError(
                f"workspace exhausted: {end} floats wanted for {shape}, {capacity} available"
            )
        self.peak = max(self.peak, end)
        if len(self._views) >= _MAX_VIEWS:
            self._views.clear()
        made = self._views[key] = self._buffer.narrow(0, start, size).view(shape), end
        return made
