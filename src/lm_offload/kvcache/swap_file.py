"""Blocks of preempted sequences in a file; one thread moves them beside the sweeps.

A slot holds one block of all layers in memory, padded to a sector. Moves happen in the order in
which they are asked for, so what is read was written before, and a slot may be given to another
block while its last move is still in line.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lm_offload.kvcache.cache import KVCache
from lm_offload.storage.spill_file import SECTOR_BYTES, SpillFile
from lm_offload.units import align_up

if TYPE_CHECKING:
    from lm_offload.storage.arena import Arena


class SwapStore(Protocol):
    """Where blocks go; futures raise StorageError."""

    num_slots: int

    def write(self, block: int, slot: int) -> Future[None]:
        """Copy a block, which nobody changes meanwhile, to a slot."""

    def read(self, slot: int, block: int) -> Future[None]:
        """Copy a slot to a block, which nobody uses meanwhile."""

    def close(self) -> None:
        """Stop after the block in flight."""


class _NoSlots:
    """Of an engine that computes everything again."""

    num_slots = 0

    def write(self, block: int, slot: int) -> Future[None]:
        raise ValueError("there is no slot to write to")

    def read(self, slot: int, block: int) -> Future[None]:
        raise ValueError("there is no slot to read from")

    def close(self) -> None:
        """There is nothing to stop."""


NO_SLOTS: SwapStore = _NoSlots()


def swap_slot_bytes(block_bytes: int) -> int:
    """Of a block in the file, and of the memory that it goes through."""
    return align_up(block_bytes, SECTOR_BYTES)


class SwapFile:
    """As many slots as there are blocks; the file is there from the first write on."""

    def __init__(self, cache: KVCache, arena: Arena, folder: Path) -> None:
        import numpy as np

        self.num_slots = cache.num_blocks
        self._cache = cache
        self._folder = folder
        self._memory = arena.buffer[: swap_slot_bytes(cache.block_bytes)]
        self._block = np.frombuffer(self._memory, dtype=np.uint8)[: cache.block_bytes]
        self._file: SpillFile | None = None
        self._thread = ThreadPoolExecutor(1, "kv-swap")

    def write(self, block: int, slot: int) -> Future[None]:
        """Copy a block, which nobody changes meanwhile, to a slot."""
        return self._thread.submit(self._write, block, slot)

    def read(self, slot: int, block: int) -> Future[None]:
        """Copy a slot to a block, which nobody uses meanwhile."""
        return self._thread.submit(self._read, slot, block)

    def close(self) -> None:
        """Stop after the block in flight and give the room on the disk back."""
        self._thread.shutdown(cancel_futures=True)
        if self._file is not None:
            self._file.close()

    def _write(self, block: int, slot: int) -> None:
        if self._file is None:
            self._file = SpillFile(self._folder, self.num_slots * len(self._memory))
        self._cache.copy_out(block, self._block)
        self._file.write_from(self._memory, slot * len(self._memory))

    def _read(self, slot: int, block: int) -> None:
        assert self._file is not None  # a write came before
        self._file.read_into(self._memory, slot * len(self._memory))
        self._cache.copy_in(block, self._block)
