"""What of a sequence the next sweep works on."""

from __future__ import annotations

from lm_offload.quant.kv_format import BLOCK_TOKENS
from lm_offload.sequence import Chunk, Sequence


def next_chunk(sequence: Sequence, rows: int, logits: int) -> Chunk | None:
    """As much of a sequence as fits into the rows and the logits that are left."""
    start = sequence.num_computed
    chunk = Chunk(sequence, start, start + min(sequence.num_uncomputed, rows))
    if chunk.is_scored:
        chunk = Chunk(sequence, start, min(chunk.stop, max(start, sequence.logits_from) + logits))
    return chunk if chunk.stop > chunk.start and chunk.num_logits <= logits else None


def filled_blocks(chunk: Chunk) -> list[int]:
    """The blocks that are full when the chunk is computed."""
    return chunk.sequence.blocks[chunk.start // BLOCK_TOKENS : chunk.stop // BLOCK_TOKENS]
