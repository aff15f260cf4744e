"""Blocks over all layers where some of these lie on disk, as bytes in one order for every plan."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
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

    def __init__(
        self, cache: KVCache, spilled: SpilledCache, layer_bytes: Mapping[int, int]
    ) -> None:
        """`layer_bytes` of all layers that keep something, in order: of a block, unpadded."""
        self._cache = cache
        self._spilled = spilled
        self._layer_bytes = layer_bytes
        self.block_bytes = sum(layer_bytes.values())
        self._staging = memoryview(mmap.mmap(-1, spilled.block_bytes))  # aligned to pages
        self._staged = np.frombuffer(self._staging, dtype=np.uint8)

    def copy_out(self, block: int, memory: NDArray[np.uint8]) -> None:
        """See `BlockBytes.copy_out`."""
        here, start = np.empty(self._cache.block_bytes, dtype=np.uint8), 0
        if self._cache.block_bytes:
            self._cache.copy_out(block, here)
        for layer, part in self._parts(memory):
            if layer in self._spilled.layers:
                self._spilled.read_block(layer, block, self._staging)
                part[:] = self._staged[: len(part)]
            else:
                part[:] = here[start : start + len(part)]
                start += len(part)

    def copy_in(self, block: int, memory: NDArray[np.uint8]) -> None:
        """See `BlockBytes.copy_in`."""
        here = []
        for layer, part in self._parts(memory):
            if layer in self._spilled.layers:
                self._staged[: len(part)] = part
                self._spilled.write_block(layer, block, self._staging)
            else:
                here.append(part)
        if here:
            self._cache.copy_in(block, np.concatenate(here))

    def _parts(self, memory: NDArray[np.uint8]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Of each layer."""
        start = 0
        for layer, size_bytes in self._layer_bytes.items():
            yield layer, memory[start : start + size_bytes]
            start += size_bytes
