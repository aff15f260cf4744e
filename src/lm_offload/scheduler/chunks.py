"""What of each sequence the next sweep works on.

Prompts with a common prefix have its blocks in common. The first of them computes it; the others
follow in the same sweep if all of it is in there, else in the first one after it. That is causally
right: each layer stores the keys and values of a micro-batch before it attends, and micro-batches
go through a layer in order. A prefix is computed by a sequence that was admitted earlier and holds
all of its blocks, so no two wait for each other. Blocks that lie on disk get there with the end of
a sweep: without `shares_in_sweep` the others always follow in the next one. Where layers are
recurrent a chunk is cut at the ends of blocks behind which a state is to be kept, and what follows
there is in a later wave of the sweep.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter

from lm_offload.kvcache.shared_blocks import SharedBlocks
from lm_offload.quant.kv_format import BLOCK_TOKENS
from lm_offload.sequence import Batch, Chunk, Sequence


def next_batch(
    sequences: Iterable[Sequence],
    blocks: SharedBlocks,
    rows: int,
    logits: int,
    shares_in_sweep: bool,
) -> Batch:
    """Decodes, then prompts, as far as rows and logits last; who waits for a prefix is left out.

    With `shares_in_sweep` a prefix may be computed in the same sweep by another. Those with blocks
    in one memory are side by side, in order of their waves.
    """
    chunks: list[Chunk] = []
    filling: set[int] = set()
    for sequence in sorted(sequences, key=_is_prefill):
        if sequence.num_shared_blocks and not blocks.skip_shared(sequence, filling):
            continue
        chunk, wanted = _next_chunk(sequence, rows, logits)
        if chunk is not None:
            pieces = blocks.pieces(chunk)
            chunks += pieces
            start, stop = chunk.start, pieces[-1].stop
            if stop - start > 1 and shares_in_sweep:
                filling.update(sequence.blocks[start // BLOCK_TOKENS : stop // BLOCK_TOKENS])
            rows -= stop - start
            cut = stop < chunk.stop
            logits -= sum(piece.num_logits for piece in pieces) if cut else wanted
    chunks.sort(key=attrgetter("wave"))
    chunks.sort(key=lambda chunk: blocks.home_of(chunk.sequence))
    return Batch(tuple(chunks))


def _next_chunk(sequence: Sequence, rows: int, logits: int) -> tuple[Chunk | None, int]:
    """As much of a sequence as fits into the rows and the logits that are left; its own logits."""
    start = sequence.num_computed
    chunk = Chunk(sequence, start, start + min(sequence.num_uncomputed, rows))
    if chunk.is_scored:
        chunk = Chunk(sequence, start, min(chunk.stop, max(start, sequence.logits_from) + logits))
    wanted = chunk.num_logits
    return (chunk if chunk.stop > start and wanted <= logits else None), wanted


def _is_prefill(sequence: Sequence) -> bool:
    return sequence.num_uncomputed > 1
