"""Who takes part in the next sweep: every running sequence, and prompts as far as they fit.

A sequence is admitted when the KV blocks of its whole length can be had, so what runs can finish:
nothing runs out of memory half-way. Admission is in order of arrival.

Prompts with a common prefix have its blocks in common. The first of them computes it; the others
follow in the same sweep if all of it is in there, else in the first one after it. That is causally
right: each layer stores the keys and values of a micro-batch before it attends, and micro-batches
go through a layer in order. A prefix is computed by a sequence that was admitted earlier and holds
all of its blocks, so no two wait for each other. Blocks that lie on disk get there with the end of
a sweep: without `shares_in_sweep` the others always follow in the next one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from lm_offload.kvcache.blocks import BlockAllocator
from lm_offload.kvcache.shared_blocks import Restore, SharedBlocks, restore_none
from lm_offload.quant.kv_blocks import BLOCK_TOKENS
from lm_offload.sequence import Batch, Chunk, Sequence


class Scheduler:
    """Waiting and running sequences, and the KV blocks they hold."""

    def __init__(
        self,
        allocator: BlockAllocator,
        max_tokens: int,
        max_sequences: int,
        scored_rows: int = 0,
        restore: Restore = restore_none,
        shares_in_sweep: bool = True,
    ) -> None:
        self.blocks = SharedBlocks(allocator, restore)
        self._lanes = BlockAllocator(max_sequences)
        self._shares_in_sweep = shares_in_sweep
        self._max_tokens = max_tokens  # rows of a sweep
        self._max_sequences = max_sequences
        self._logit_rows = max_sequences + scored_rows
        self._waiting: deque[Sequence] = deque()
        self._running: list[Sequence] = []

    def add(self, sequences: Iterable[Sequence]) -> None:
        """Queue sequences; each must fit into an empty KV cache."""
        self._waiting.extend(sequences)

    @property
    def has_work(self) -> bool:
        """Whether a sequence is unfinished."""
        return bool(self._waiting or self._running)

    def schedule(self) -> Batch:
        """The next sweep: one token of each decode, then prompts as far as they fit."""
        self._admit()
        rows, logits = self._max_tokens, self._logit_rows
        chunks: list[Chunk] = []
        filling: set[int] = set()
        for sequence in sorted(self._running, key=_is_prefill):
            if sequence.num_shared_blocks and not self.blocks.skip_shared(sequence, filling):
                continue
            chunk = _chunk(sequence, rows, logits)
            if chunk is not None:
                chunks.append(chunk)
                if self._shares_in_sweep and not sequence.output:
                    filling.update(_filled_blocks(chunk))
                rows -= chunk.stop - chunk.start
                logits -= chunk.num_logits
        return Batch(tuple(chunks))

    def _admit(self) -> None:
        while self._waiting and len(self._running) < self._max_sequences:
            if not self.blocks.admit(self._waiting[0]):
                return
            sequence = self._waiting.popleft()
            (sequence.lane,) = self._lanes.allocate(1)
            self._running.append(sequence)

    def advance(self, batch: Batch) -> None:
        """Record that the K and V of the known tokens of `batch` are in the cache."""
        for chunk in batch.chunks:
            chunk.sequence.num_computed = chunk.known_stop
            self.blocks.note_computed(chunk.sequence, chunk.start)

    def retire_finished(self) -> list[Sequence]:
        """Take out the sequences that have a finish reason and free their blocks."""
        finished = [sequence for sequence in self._running if sequence.finish_reason]
        for sequence in finished:
            self._release(sequence)
        self._running = [sequence for sequence in self._running if not sequence.finish_reason]
        return finished

    def drop_all(self) -> None:
        """Forget every sequence, after an error or an interruption."""
        for sequence in self._running:
            self._release(sequence)
        self._running.clear()
        self._waiting.clear()

    def _release(self, sequence: Sequence) -> None:
        self.blocks.release(sequence)
        self._lanes.free([sequence.lane])


def _chunk(sequence: Sequence, rows: int, logits: int) -> Chunk | None:
    """As much of a sequence as fits into the rows and the logits that are left."""
    start = sequence.num_computed
    chunk = Chunk(sequence, start, start + min(sequence.num_uncomputed, rows))
    if chunk.is_scored:
        chunk = Chunk(sequence, start, min(chunk.stop, max(start, sequence.logits_from) + logits))
    return chunk if chunk.stop > chunk.start and chunk.num_logits <= logits else None


def _filled_blocks(chunk: Chunk) -> list[int]:
    """The blocks that are full when the chunk is computed."""
    return chunk.sequence.blocks[chunk.start // BLOCK_TOKENS : chunk.stop // BLOCK_TOKENS]


def _is_prefill(sequence: Sequence) -> bool:
    return sequence.num_uncomputed > 1
