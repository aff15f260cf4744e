"""Shared blocks of models with recurrent layers: prefixes are of use as far as states are kept.

::

    blocks of a prompt    0 1 2 3 4 5 6 7     found up to 5 in the cache
    states kept behind        2               blocks 0 to 2 are used, 3 to 5 computed once more
    kept on the way                 5   7     where the texts part, and at the end of the prompt

A state is kept behind a block if another sequence waits for it, where a text parts from one that
was computed before, at the end of a prompt, and at the last full block of what is generated: the
last two only while there is room for those of all sequences in flight.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from lm_offload.kvcache.block_keys import key_behind, text_keys
from lm_offload.kvcache.blocks import BlockAllocator
from lm_offload.kvcache.kept_states import KeptStates
from lm_offload.kvcache.shared_blocks import SharedBlocks
from lm_offload.quant.kv_format import BLOCK_TOKENS
from lm_offload.sequence import Chunk, Sequence

LEAST_BLOCKS = 2  # worth the few rows behind a cut, which the weights are multiplied with alone
STATES = 2  # of a sequence that may come again: its prompt's and its last one


@dataclass
class _Way:
    """Of a sequence with blocks."""

    begins_with: bytes | None = None  # the prefix whose state it has not copied yet
    stops: set[int] = field(default_factory=set)  # blocks behind which its state is to be kept
    making: list[bytes] = field(default_factory=list)  # in the sweep that is being made
    last: bytes | None = None  # what was kept of its output


class StatefulBlocks(SharedBlocks):
    """Sequences go on behind prefixes whose states are kept; see above.

    Where not `cuts` a sweep ends with rows that others wait for, and is cut for nothing else.
    """

    def __init__(self, allocator: BlockAllocator, kept: KeptStates, cuts: bool) -> None:
        super().__init__(allocator)
        self._kept = kept
        self._cuts = cuts
        self._ways: dict[Sequence, _Way] = {}
        self._waves: dict[int, int] = {}  # in which blocks are filled, of the sweep being made

    def admit(self, sequence: Sequence, num_tokens: int) -> bool:
        """See `SharedBlocks.admit`; says where states are to be kept for its sake, too."""
        sequence.block_keys = sequence.block_keys or list(text_keys(sequence))
        known = len(super()._usable(sequence))
        if not super().admit(sequence, num_tokens):
            return False
        self._ways[sequence] = _Way()
        if sequence.num_shared_blocks:
            self._begin_behind(sequence, sequence.num_shared_blocks)
        stops = {known}
        if sequence.prefix_root is not None and self._has_plenty and self._cuts:
            stops.add((len(sequence.prompt) - 1) // BLOCK_TOKENS)
        least = sequence.num_shared_blocks + LEAST_BLOCKS
        self._ways[sequence].stops.update(stop for stop in stops if stop >= least)
        return True

    def _usable(self, sequence: Sequence) -> list[int]:
        """Up to the last block with a state behind it, or to where another sequence will come."""
        blocks, keys = super()._usable(sequence), sequence.block_keys
        count = len(blocks)
        while count and not self._kept.has(keys[count - 1]):
            count -= 1
        comes = len(blocks) >= count + LEAST_BLOCKS and blocks[-1] in self._writers
        if comes and self._kept.may_expect(keys[len(blocks) - 1]):
            return blocks
        return blocks[:count] if count and self._kept.may_expect(keys[count - 1]) else []

    def _begin_behind(self, sequence: Sequence, blocks: int) -> None:
        key = self._ways[sequence].begins_with = sequence.block_keys[blocks - 1]
        self._kept.expect(key)
        if not self._kept.has(key):
            writer = self._writers[sequence.blocks[blocks - 1]]
            self._ways[writer].stops.add(blocks)

    @property
    def _has_plenty(self) -> bool:
        return self._kept.num_slots >= STATES * len(self._ways)

    def skip_shared(self, sequence: Sequence, filling: Collection[int]) -> bool:
        """Go to the end of what is shared at once, when all of it and the state there are there."""
        if sequence.num_computed >= sequence.num_shared_blocks * BLOCK_TOKENS:
            return True
        key = self._ways[sequence].begins_with
        if key is None or not self._kept.has(key):
            return False
        if not all(block in filling for block in self._unfilled(sequence)):
            return False
        sequence.skip_to(sequence.num_shared_blocks * BLOCK_TOKENS)
        return True

    def is_stranded(self, sequence: Sequence) -> bool:
        """Whether who computed its prefix has left: it takes its blocks anew."""
        key = self._ways[sequence].begins_with
        if key is None:
            return False
        first = next(self._unfilled(sequence), None)
        return not self._kept.has(key) if first is None else first not in self._writers

    def _unfilled(self, sequence: Sequence) -> Iterator[int]:
        """Blocks that others are to fill for it, in order."""
        shared = sequence.blocks[: sequence.num_shared_blocks]
        return (block for block in shared if not self._index.is_filled(block))

    def pieces(self, chunk: Chunk) -> tuple[Chunk, ...]:
        """What a sweep works on of `chunk`, cut behind blocks whose states are to be kept."""
        way, sequence = self._ways[chunk.sequence], chunk.sequence
        stops = self._stops_in(way, chunk)
        if not stops and way.begins_with is None:
            return self._noted(sequence, [chunk])
        loads, wave = self._first_wave(way.begins_with, sequence)
        pieces: list[Chunk] = []
        start = chunk.start
        for stop in stops:
            if (slot := self._make(way, chunk, stop, wave)) is not None:
                pieces.append(Chunk(sequence, start, stop, wave=wave, loads=loads, saves=slot))
                start, loads, wave = stop, None, wave + 1
                if not self._cuts:
                    break
        if start < chunk.stop and (self._cuts or not pieces):
            pieces.append(Chunk(sequence, start, chunk.stop, wave=wave, loads=loads))
        return self._noted(sequence, pieces)

    def _first_wave(self, prefix: bytes | None, sequence: Sequence) -> tuple[int | None, int]:
        """The slot of the state that it begins with, and where its state and blocks are there."""
        if prefix is None:
            return None, 0
        slot, wave = self._kept.slot_of(prefix)
        return slot, max((wave, *(self._waves.get(block, 0) for block in self._unfilled(sequence))))

    def _noted(self, sequence: Sequence, pieces: list[Chunk]) -> tuple[Chunk, ...]:
        """The same, and in which wave each of their blocks is filled."""
        for piece in pieces:
            for place in range(piece.start // BLOCK_TOKENS, piece.stop // BLOCK_TOKENS):
                self._waves[sequence.blocks[place]] = piece.wave
        return tuple(pieces)

    def _stops_in(self, way: _Way, chunk: Chunk) -> list[int]:
        """Positions in it behind which the state is to be kept."""
        if chunk.sequence.prefix_root is None:
            return []
        stops = {stop * BLOCK_TOKENS for stop in way.stops}
        if chunk.stop % BLOCK_TOKENS == 0 and _is_output(chunk, chunk.stop) and self._has_plenty:
            stops.add(chunk.stop)
        return sorted(stop for stop in stops if chunk.start < stop <= chunk.stop)

    def _make(self, way: _Way, chunk: Chunk, stop: int, wave: int) -> int | None:
        """A slot for the state behind `stop`, if there is none yet and one can be had."""
        key = key_behind(chunk.sequence, stop)
        is_cheap = self._cuts or stop == chunk.stop
        if self._kept.has(key) or not (is_cheap or self._kept.is_expected(key)):
            return None
        if _is_output(chunk, stop):
            if way.last is not None:
                self._kept.forget(way.last)
            way.last = key
        slot = self._kept.make(key, wave)
        if slot is not None:
            way.making.append(key)
        return slot

    def note_computed(self, sequence: Sequence, start: int) -> None:
        """See `SharedBlocks.note_computed`; states that were copied are there."""
        super().note_computed(sequence, start)
        self._waves.clear()
        way = self._ways[sequence]
        self._has_begun(way)
        for key in way.making:
            self._kept.made(key)
        way.making.clear()

    def _has_begun(self, way: _Way) -> None:
        if way.begins_with is not None:
            self._kept.leave(way.begins_with)
            way.begins_with = None

    def release(self, sequence: Sequence) -> None:
        """Take the blocks from `sequence`; states that it has left stay kept."""
        if (way := self._ways.pop(sequence, None)) is not None:
            self._has_begun(way)
            for key in way.making:
                self._kept.abandon(key)
        super().release(sequence)


def _is_output(chunk: Chunk, stop: int) -> bool:
    """Whether generated tokens come before `stop`."""
    return stop > len(chunk.sequence.prompt)
