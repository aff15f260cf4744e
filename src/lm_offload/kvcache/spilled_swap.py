"""Slots for preempted sequences where some layers of the KV cache lie on disk already.

What is there stays there under another name; only what lies in memory is moved.
"""

from __future__ import annotations

from concurrent.futures import Future

from lm_offload.errors import StorageError
from lm_offload.kvcache.spilled import SpilledCache
from lm_offload.kvcache.swap_file import SwapFile


class SpilledSwap:
    """As many slots as there are blocks; to be called while no sweep is computed.

    `memory` is of the layers in memory, None where there is none.
    """

    def __init__(self, spilled: SpilledCache, memory: SwapFile | None) -> None:
        self.num_slots = len(spilled.places.of)
        self._spilled = spilled
        self._memory = memory

    def write(self, block: int, slot: int) -> Future[None]:
        """Keep a block, which nobody changes meanwhile, in a slot."""
        try:
            self._spilled.make_room_for_slots()
        except StorageError as error:
            return _done(error)
        self._spilled.places.keep(block, slot)
        return self._memory.write(block, slot) if self._memory else _done()

    def read(self, slot: int, block: int) -> Future[None]:
        """Copy a slot to a block, which nobody uses meanwhile."""
        self._spilled.places.give(slot, block)
        return self._memory.read(slot, block) if self._memory else _done()

    def close(self) -> None:
        """Stop after the block in flight; the file of the other layers is left to its owner."""
        if self._memory is not None:
            self._memory.close()


def _done(error: StorageError | None = None) -> Future[None]:
    future: Future[None] = Future()
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
    return future
