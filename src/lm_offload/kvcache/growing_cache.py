"""A KV cache that grows from the start of its memory, so that the rest can be lent meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch

from lm_offload.arch.config import ModelConfig
from lm_offload.kvcache.cache import KVCache, blocks_for, numbered_blocks
from lm_offload.kvcache.places import BlockPlaces
from lm_offload.quant.format import Format
from lm_offload.quant.kv_format import BLOCK_TOKENS
from lm_offload.sequence import Chunk
from lm_offload.storage.arena import Tier

Recall = Callable[[int], None]  # takes back what lies in the first so many bytes


class GrowingCache(KVCache):
    """All layers of a block lie side by side; `sequence.blocks` are numbers that have places."""

    def __init__(self, config: ModelConfig, num_blocks: int, format: Format, tier: Tier) -> None:
        super().__init__(config, num_blocks, format, tier, order="blocks")
        self._places = BlockPlaces(num_blocks)
        shape = num_blocks, self.block_bytes
        self._blocks = self.memory.view(0, torch.uint8, shape)
        self._lent_from = self._foreign_from = num_blocks  # now, at any time
        self._recall: Recall

    @property
    def used_blocks(self) -> int:
        """Blocks up to the last one that is in use."""
        return self._places.end

    @property
    def filled_blocks(self) -> int:
        """Blocks that are in use, gaps between them left out."""
        return self._places.num_used

    def close_gaps(self, most: int) -> None:
        """Move up to `most` blocks from the end of what is used to gaps before it."""
        for source, target in self._places.close_gaps(most):
            self._blocks[target].copy_(self._blocks[source])

    def lend(self, start_bytes: int, recall: Recall) -> None:
        """Leave what lies behind `start_bytes` to others; `recall` is called before it is used.

        Then nobody else may touch it any more, and it is for `recall` to lend the rest again.
        """
        self._lent_from, self._recall = start_bytes // self.block_bytes, recall
        self._foreign_from = min(self._foreign_from, self._lent_from)

    def hold(self, chunks: Iterable[Chunk]) -> None:
        """Give the blocks that chunks write to their places."""
        self._claim([block for chunk in chunks for block in self._written(chunk)])

    def drop(self, numbers: Iterable[int]) -> None:
        """Their places are free."""
        self._places.drop(numbers)

    def blocks_of(self, piece: Chunk) -> list[int]:
        """As in any cache; what a sweep writes must be held."""
        places: list[int] = self._places.of(numbered_blocks(piece)).tolist()
        return places

    def block_parts(self, block: int) -> list[torch.Tensor]:
        """As in any cache; a block without a place gets one."""
        self._claim([block])
        return super().block_parts(int(self._places.of([block])[0]))

    def _claim(self, numbers: list[int]) -> None:
        new = self._places.claim(numbers)
        if self._places.end > self._lent_from:
            self._recall(self._places.end * self.block_bytes)
        for place in new:
            if place >= self._foreign_from:  # kernels weigh what they do not want with zero, and
                self._blocks[place].zero_()  # bytes of a weight may read as NaN

    def _written(self, chunk: Chunk) -> list[int]:
        """Blocks that a chunk stores to, and those before it where nobody has stored them.

        Those are of sequences that are taken to be computed up to there, as in benchmarks.
        """
        blocks = chunk.sequence.blocks
        first, stop = chunk.start // BLOCK_TOKENS, blocks_for(chunk.stop)
        if first and not self._places.has(blocks[first - 1]):
            first = 0
        return blocks[first:stop]
