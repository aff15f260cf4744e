"""Which sequences of a sweep are staged together, and what of them is read and written.

One sequence with a window that reaches back into block 2, 37 tokens computed, 30 new ones::

    block      0 | 1 | 2 | 3 | 4          of 16 tokens
    in file    x   x   .                  2 is partly filled: it comes from the tail
    staged             2   3   4          at places 0, 1, 2 of the group
    written            x   x              full now; 4 is the new tail
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np

from lm_offload.arch.config import ModelConfig
from lm_offload.kvcache.cache import blocks_for
from lm_offload.kvcache.file_runs import Run, runs_of
from lm_offload.kvcache.spilled import Seats
from lm_offload.micro_batch import MicroBatch
from lm_offload.pipeline.micro_batches import build_micro_batches
from lm_offload.pipeline.replay import SteadyTensors, at_rest
from lm_offload.quant.kv_format import BLOCK_TOKENS
from lm_offload.schedule.kv_staging import KVGroup
from lm_offload.sequence import Chunk


@dataclass(frozen=True)
class StagedGroup:
    """Some sequences of a layer: what lies where in the group's place, and the rows that see it."""

    micro_batches: tuple[MicroBatch, ...]
    blocks: int
    reads: tuple[Run, ...]
    writes: tuple[Run, ...]
    begun: Seats  # blocks that are partly filled before the sweep
    unfinished: Seats  # and after it

    def size(self, block_bytes: int) -> KVGroup:
        """What the schedule wants to know."""
        read, written = (sum(run.blocks for run in runs) for runs in (self.reads, self.writes))
        computes = len(self.micro_batches)
        return KVGroup(self.blocks, computes, read * block_bytes, written * block_bytes)

    def at_rest(self, window: int | None, steady: SteadyTensors) -> StagedGroup:
        """The same, its index tensors where those of the last sweep lay."""
        micro_batches = (at_rest(rows, window, steady) for rows in self.micro_batches)
        return replace(self, micro_batches=tuple(micro_batches))


@dataclass(frozen=True)
class _Member:
    """A chunk and the places of its blocks in the group."""

    chunk: Chunk
    first_block: int  # the earliest that its rows see
    place: int  # of that block

    @property
    def end_place(self) -> int:
        return self.place_of(blocks_for(self.chunk.stop))

    def place_of(self, block: int) -> int:
        """What no row sees has the place of the first block: it is never used, but is a number."""
        return self.place + max(block - self.first_block, 0)

    def runs(self, start: int, stop: int) -> list[Run]:
        start = max(start, self.first_block)
        return runs_of(self.chunk.sequence.blocks[start:stop], self.place_of(start))


def stage(
    config: ModelConfig,
    chunks: Iterable[Chunk],
    window: int | None,
    group_blocks: int,
    max_rows: int,
) -> list[StagedGroup]:
    """The chunks of a sweep, in order, in groups of at most `group_blocks` blocks.

    A group has at least one sequence, and micro-batches of at most `max_rows` rows.
    """
    groups, first_row = [], 0
    for members in _grouped(chunks, group_blocks):
        groups.append(_staged(config, members, window, max_rows, first_row))
        first_row = groups[-1].micro_batches[-1].stop
    return groups


def _grouped(chunks: Iterable[Chunk], most_blocks: int) -> Iterator[list[Chunk]]:
    """By whole contexts, so that layers with and without a window have the same groups."""
    group: list[Chunk] = []
    for chunk in chunks:
        wanted = sum(blocks_for(member.stop) for member in (*group, chunk))
        if group and wanted > most_blocks:
            yield group
            group = []
        group.append(chunk)
    if group:
        yield group


def _staged(
    config: ModelConfig, chunks: list[Chunk], window: int | None, max_rows: int, first_row: int
) -> StagedGroup:
    members = list(_members(chunks, window))
    by_sequence = {member.chunk.sequence.index: member for member in members}

    def places(piece: Chunk) -> list[int]:
        member = by_sequence[piece.sequence.index]
        blocks = np.arange(blocks_for(piece.stop), dtype=np.int64)
        numbers: list[int] = (member.place + np.maximum(blocks - member.first_block, 0)).tolist()
        return numbers

    return StagedGroup(
        micro_batches=build_micro_batches(config, chunks, max_rows, first_row, places),
        blocks=members[-1].end_place,
        reads=tuple(run for member in members for run in member.runs(0, _full(member.chunk.start))),
        writes=tuple(
            run
            for member in members
            for run in member.runs(_full(member.chunk.start), _full(member.chunk.stop))
        ),
        begun=_seats(members, [member.chunk.start for member in members]),
        unfinished=_seats(members, [member.chunk.stop for member in members]),
    )


def _members(chunks: list[Chunk], window: int | None) -> Iterator[_Member]:
    firsts = [_first_block(chunk, window) for chunk in chunks]
    counts = [blocks_for(chunk.stop) - first for chunk, first in zip(chunks, firsts, strict=True)]
    starts = [0, *accumulate(counts)]
    for chunk, first, start in zip(chunks, firsts, starts, strict=False):
        yield _Member(chunk, first, start)


def _first_block(chunk: Chunk, window: int | None) -> int:
    """The block of the oldest position that the first row sees."""
    return max(chunk.start - window + 1, 0) // BLOCK_TOKENS if window else 0


def _full(tokens: int) -> int:
    """Blocks that so many tokens fill."""
    return tokens // BLOCK_TOKENS


def _seats(members: list[_Member], ends: list[int]) -> Seats:
    """Where the blocks lie that are partly filled up to `ends`."""
    partly = [
        (member.place_of(_full(end)), member.chunk.sequence.lane)
        for member, end in zip(members, ends, strict=True)
        if end % BLOCK_TOKENS
    ]
    pairs = np.array(partly, dtype=np.int64).reshape(-1, 2)
    return Seats(pairs[:, 0], pairs[:, 1])
