"""Who takes part in the next sweep: every running sequence, and prompts as far as they fit.

A sequence is admitted when the KV blocks of its whole length are free, so what runs can finish:
nothing is evicted and nothing runs out of memory half-way. Admission is in order of arrival.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from lm_offload.kvcache.blocks import BlockAllocator
from lm_offload.kvcache.cache import blocks_for
from lm_offload.sequence import Batch, Chunk, Sequence


class Scheduler:
    """Waiting and running sequences, and the KV blocks they hold."""

    def __init__(
        self,
        allocator: BlockAllocator,
        max_tokens: int,
        max_sequences: int,
        scored_rows: int = 0,
    ) -> None:
        self._allocator = allocator
        self._lanes = BlockAllocator(max_sequences)
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
        chunks = []
        for sequence in sorted(self._running, key=_is_prefill):
            chunk = _chunk(sequence, rows, logits)
            if chunk is not None:
                chunks.append(chunk)
                rows -= chunk.stop - chunk.start
                logits -= chunk.num_logits
        return Batch(tuple(chunks))

    def _admit(self) -> None:
        while self._waiting and len(self._running) < self._max_sequences:
            needed = blocks_for(self._waiting[0].max_tokens)
            if needed > self._allocator.num_free:
                return
            sequence = self._waiting.popleft()
            sequence.blocks = self._allocator.allocate(needed)
            (sequence.lane,) = self._lanes.allocate(1)
            self._running.append(sequence)

    def advance(self, batch: Batch) -> None:
        """Record that the K and V of `batch` are in the cache."""
        for chunk in batch.chunks:
            chunk.sequence.num_computed = chunk.stop

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
        self._allocator.free(sequence.blocks)
        self._lanes.free([sequence.lane])
        sequence.blocks = []


def _chunk(sequence: Sequence, rows: int, logits: int) -> Chunk | None:
    """As much of a sequence as fits into the rows and the logits that are left."""
    start = sequence.num_computed
    chunk = Chunk(sequence, start, start + min(sequence.num_uncomputed, rows))
    if chunk.is_scored:
        chunk = Chunk(sequence, start, min(chunk.stop, max(start, sequence.logits_from) + logits))
    return chunk if chunk.stop > chunk.start and chunk.num_logits <= logits else None


def _is_prefill(sequence: Sequence) -> bool:
    return sequence.num_uncomputed > 1
