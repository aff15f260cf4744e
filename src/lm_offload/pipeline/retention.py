"""Lends the memory of KV blocks that are not in use yet to weights that would be read again.

Reads run a sweep ahead, so a decision takes effect with the sweep after the next one, and a unit is
given up a sweep before the cache comes::

    sweep     1         2         3         4         5
    decided   keep it                       give it up        before the sweep begins
    unit      streamed  to place  kept      kept      streamed
    cache                                             may be in that place

Where the cache grows faster than was expected, what is read ahead is thrown away and read again
without the unit, which costs no more than the staging ring.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import NamedTuple

from lm_offload.kvcache.cache import blocks_for
from lm_offload.kvcache.growing_cache import GrowingCache
from lm_offload.pipeline.executor import OverlappedExecutor
from lm_offload.schedule.retention import Lending
from lm_offload.sequence import Batch, Chunk

log = logging.getLogger(__name__)

# A unit that is taken in has its place for so many sweeps: some changes in a run, but not many.
SWEEPS_AHEAD = 16
MOVED_FRAC = 1 / 64  # of the streamed bytes, in one sweep: about 1 % of the time of reading them


class Retained(NamedTuple):
    """Streamed units that a sweep finds in lent memory, and their bytes, which it does not read."""

    units: int
    size_bytes: int


NOTHING_RETAINED = Retained(0, 0)


class Retainer:
    """Decides before each sweep how many units are kept in the memory of a cache."""

    def __init__(
        self,
        lending: Lending,
        sizes_bytes: Mapping[int, int],
        cache: GrowingCache,
        executor: OverlappedExecutor,
    ) -> None:
        self._lending = lending
        self._sizes_bytes = sizes_bytes
        self._cache = cache
        self._executor = executor
        self._count = 0
        moved_bytes = MOVED_FRAC * sum(sizes_bytes.values())
        self._most_moves = max(int(moved_bytes / cache.block_bytes), 1)

    def prepare(self, batch: Batch) -> Retained:
        """Give the blocks of the next sweep their places; returns what it need not read."""
        self._cache.hold(batch.chunks)
        spared = self._executor.spared
        growing = growth(batch, 1), growth(batch, SWEEPS_AHEAD)
        if self._choice(self._cache.filled_blocks, *growing) > self._count:
            self._cache.close_gaps(self._most_moves)
        self._keep(self._choice(self._cache.used_blocks, *growing))
        return Retained(len(spared), sum(self._sizes_bytes[unit] for unit in spared))

    def _choice(self, blocks: int, soon: int, later: int) -> int:
        """How many units to keep beside so many blocks, which become so many more."""
        block_bytes = self._cache.block_bytes
        ends = (blocks + soon) * block_bytes, (blocks + later) * block_bytes
        return self._lending.choose(self._count, *ends)

    def _take_back(self, used_bytes: int) -> None:
        """The cache needs its first `used_bytes` at once."""
        self._keep(min(self._count, self._lending.fitting(used_bytes)))
        self._executor.read_again()

    def _keep(self, count: int) -> None:
        if count == self._count:
            return
        log.debug(
            "Weights in unused KV memory: %d of %d units, after %d; the cache uses %d of %d blocks",
            *(count, len(self._sizes_bytes), self._count),
            *(self._cache.used_blocks, self._cache.num_blocks),
        )
        self._count = count
        self._executor.retain(frozenset(self._lending.units[:count]))
        self._cache.lend(self._lending.start_bytes(count), self._take_back)


def growth(batch: Batch, sweeps: int) -> int:
    """Blocks that the sequences of a batch take more in so many sweeps, if it goes on like this."""
    return sum(_growth(chunk, sweeps) for chunk in batch.chunks)


def _growth(chunk: Chunk, sweeps: int) -> int:
    rows = 1 + len(chunk.draft) if chunk.completes else chunk.stop - chunk.start
    stop = min(chunk.stop + sweeps * rows, max(chunk.sequence.max_tokens, chunk.stop))
    return blocks_for(stop) - blocks_for(chunk.stop)
