"""Blocks over all layers where some of these lie on disk, as bytes in one order for every plan."""

from __future__ import annotations

import mmap
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lm_offload.kvcache.cache import KVCache
from lm_offload.kvcache.spilled import SpilledCache


class BlockBytes(Protocol):
    """Blocks that can be copied out and in whole: of each layer its keys, then its values."""

    block_bytes: int

    def copy_out(self, block: int, memory: NDArray[np.uint8]) -> None:
        """Copy a full block to `memory` of `block_bytes`; may raise StorageError."""

    def copy_in(self, block: int, memory: NDArray[np.uint8]) -> None:
        """Fill a block from what `copy_out` gave; may raise StorageError."""


class WholeBlocks:
    """Of a cache in memory and of the layers that it lacks; see `BlockBytes`.

    To be used between sweeps, when no transfer is in flight.
    """

    def __init__(self, cache: KVCache, spilled: SpilledCache, layer_bytes: int) -> None:
        self._cache = cache
        self._spilled = spilled
        self._layer_bytes = layer_bytes  # of a block, without padding
        self._in_memory = list(cache.keys)
        layers = len(self._in_memory) + len(spilled.layers)
        self.block_bytes = layers * layer_bytes
        self._staging = memoryview(mmap.mmap(-1, spilled.block_bytes))  # aligned to pages
        self._staged = np.frombuffer(self._staging, dtype=np.uint8)[:layer_bytes]

    def copy_out(self, block: int, memory: NDArray[np.uint8]) -> None:
        """See `BlockBytes.copy_out`."""
        rows = memory.reshape(-1, self._layer_bytes)
        if self._in_memory:
            here = np.empty(self._cache.block_bytes, dtype=np.uint8)
            self._cache.copy_out(block, here)
            rows[self._in_memory] = here.reshape(-1, self._layer_bytes)
        for layer in self._spilled.layers:
            self._spilled.read_block(layer, block, self._staging)
            rows[layer] = self._staged

    def copy_in(self, block: int, memory: NDArray[np.uint8]) -> None:
        """See `BlockBytes.copy_in`."""
        rows = memory.reshape(-1, self._layer_bytes)
        if self._in_memory:
            self._cache.copy_in(block, rows[self._in_memory].reshape(-1))
        for layer in self._spilled.layers:
            self._staged[:] = rows[layer]
            self._spilled.write_block(layer, block, self._staging)
