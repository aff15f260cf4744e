"""Preempted sequences on their way to the disk and back, while others are computed.

::

    preempted   its own full blocks are written, the last first; each is free when it is there
    waiting     in slots of the file; a block that is still in memory, too, is used from there
    admitted    read into other blocks; it takes part in the sweeps when all of them are there
    running     the slots stay until it ends: preempted again, it writes only what is new

What is partly filled, 15 tokens at most, is computed again. Where the disk fails all of it is.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import NamedTuple

from lm_offload.errors import StorageError
from lm_offload.kvcache.blocks import BlockAllocator
from lm_offload.kvcache.shared_blocks import SharedBlocks
from lm_offload.kvcache.swap_choice import Preemption, SwapChoice
from lm_offload.kvcache.swap_file import SwapStore
from lm_offload.quant.kv_format import BLOCK_TOKENS
from lm_offload.sequence import Sequence

log = logging.getLogger(__name__)


class _Leaving(NamedTuple):
    """A block that is in use until it is written."""

    sequence: Sequence
    block: int
    written: Future[None]


class _Arriving(NamedTuple):
    """Blocks `start` to `stop` of a sequence that are being read."""

    start: int
    stop: int
    reads: list[Future[None]]


class Swapping:
    """Chooses between the disk and computing again, and moves blocks."""

    def __init__(self, blocks: SharedBlocks, store: SwapStore, pays: SwapChoice) -> None:
        self.count = 0  # preemptions of the run that went to the disk
        self._blocks = blocks
        self._store = store
        self._pays = pays
        self._free = BlockAllocator(store.num_slots)
        self._slots: dict[Sequence, dict[int, int]] = {}  # by position among its blocks
        self._leaving: list[_Leaving] = []
        self._arriving: dict[Sequence, _Arriving] = {}
        self._works = True

    def begin_run(self) -> None:
        """Count anew, and try a disk again that has failed."""
        self.count, self._works = 0, True

    def release(self, sequence: Sequence, others: Collection[Sequence]) -> None:
        """Take the blocks from a preempted sequence while `others` go on, and keep what pays."""
        if self._stop_arrival(sequence):  # all that it had is still on disk
            self._blocks.release(sequence)
            self.count += 1
            return
        start, stop = self._blocks.first_own(sequence), sequence.num_computed // BLOCK_TOKENS
        slots = self._slots.get(sequence, {})
        missing = [place for place in range(start, stop) if place not in slots]
        contexts = tuple(other.num_tokens for other in others)
        preemption = Preemption(start, sequence.num_computed, len(missing), contexts)
        if start < stop and self._has_room(len(missing)) and self._pays(preemption):
            self._write(sequence, start, stop, missing)
        else:
            self.forget(sequence)
            self._blocks.release(sequence)

    def bring_back(self, sequence: Sequence) -> None:
        """Begin to read what an admitted sequence has on disk and not in memory."""
        slots = self._slots.get(sequence, {})
        start = stop = sequence.num_shared_blocks
        while stop in slots:
            stop += 1
        if start < stop and self._blocks.has_shared(sequence):
            blocks = sequence.blocks
            reads = [self._store.read(slots[place], blocks[place]) for place in range(start, stop)]
            self._arriving[sequence] = _Arriving(start, stop, reads)

    def is_arriving(self, sequence: Sequence) -> bool:
        """Whether it cannot take part in a sweep yet."""
        return sequence in self._arriving

    @property
    def is_leaving(self) -> bool:
        """Whether blocks are written that will be free then."""
        return bool(self._leaving)

    def settle(self) -> None:
        """Free the blocks that are written by now, let sequences go on that are read."""
        self._leaving = [move for move in self._leaving if not self._left(move)]
        for sequence, moves in list(self._arriving.items()):
            if moves.reads[-1].done():
                del self._arriving[sequence]
                self._arrived(sequence, moves)

    def wait_for_room(self) -> bool:
        """Wait until a block is free that is being written; False if there is none."""
        return self._wait([move.written for move in self._leaving])

    def wait(self) -> bool:
        """Wait for anything that is under way; False if nothing is."""
        arriving = [moves.reads[-1] for moves in self._arriving.values()]
        return self._wait([*arriving, *(move.written for move in self._leaving)])

    def forget(self, sequence: Sequence) -> None:
        """Give up its slots: it has ended, or will be computed again."""
        self._stop_arrival(sequence)
        self._free.free([*self._slots.pop(sequence, {}).values()])

    def drop_all(self) -> None:
        """Stop all moves and forget every sequence."""
        _cancel([move.written for move in self._leaving])
        self._blocks.release_blocks([move.block for move in self._leaving])
        self._leaving.clear()
        for sequence in list(self._slots):  # each that is arriving among them
            self.forget(sequence)

    def _has_room(self, blocks: int) -> bool:
        return self._works and blocks <= self._free.num_free

    def _write(self, sequence: Sequence, start: int, stop: int, missing: list[int]) -> None:
        self.count += 1
        slots = self._slots.setdefault(sequence, {})
        slots.update(zip(missing, self._free.allocate(len(missing)), strict=True))
        own = dict(enumerate(self._blocks.release_all_but(sequence, start, stop), start))
        for place in reversed(missing):
            block = own.pop(place)
            written = self._store.write(block, slots[place])
            self._leaving.append(_Leaving(sequence, block, written))
        self._blocks.release_blocks([*own.values()])

    def _left(self, move: _Leaving) -> bool:
        if not move.written.done():
            return False
        self._blocks.release_blocks([move.block])
        self._check([move.written], move.sequence)
        return True

    def _arrived(self, sequence: Sequence, moves: _Arriving) -> None:
        self._check(moves.reads, sequence)
        if sequence in self._slots:
            sequence.num_computed = moves.stop * BLOCK_TOKENS
            self._blocks.note_computed(sequence, moves.start * BLOCK_TOKENS)

    def _check(self, moves: list[Future[None]], sequence: Sequence) -> None:
        """Leave a sequence to computing again if the disk failed, and others from now on."""
        error = next(filter(None, (move.exception() for move in moves)), None)
        if error is None:
            return
        if not isinstance(error, StorageError):
            raise error
        if self._works:
            log.warning("%s Sequences that make room are computed again.", error)
        self._works = False
        if sequence in self._slots:
            self.count -= 1
            self.forget(sequence)

    def _stop_arrival(self, sequence: Sequence) -> bool:
        """Whether it was arriving; nothing is read into its blocks any more."""
        moves = self._arriving.pop(sequence, None)
        if moves is not None:
            _cancel(moves.reads)
        return moves is not None

    def _wait(self, moves: list[Future[None]]) -> bool:
        if moves:
            wait(moves, return_when=FIRST_COMPLETED)
            self.settle()
        return bool(moves)


def _cancel(moves: list[Future[None]]) -> None:
    """Moves that have not begun will not; the one that has is waited for."""
    wait([move for move in moves if not move.cancel()])
