"""Rows that attention is measured with: the last ones of sequences that are equally long."""

from __future__ import annotations

import torch

from lm_offload.micro_batch import MicroBatch
from lm_offload.quant.kv_format import BLOCK_TOKENS


def batch_of(context: int, sequences: int, rows: int, kind: str) -> MicroBatch:
    """The last `rows` rows of sequences that are `context` tokens long."""
    blocks = -(-context // BLOCK_TOKENS)
    return MicroBatch(
        start=0,
        stop=sequences * rows,
        positions=torch.arange(context - rows, context).repeat(sequences),
        query_starts=torch.arange(0, sequences * rows + 1, rows, dtype=torch.int32),
        context_lens=torch.full((sequences,), context, dtype=torch.int32),
        block_tables=_tables(sequences, blocks, kind),
        slots=torch.zeros(sequences * rows, dtype=torch.int64),
    )


def _tables(sequences: int, blocks: int, kind: str) -> torch.Tensor:
    """Blocks [sequences, blocks] in any order, in order, or as sequences take them that grow."""
    if kind == "beside":
        return torch.arange(sequences * blocks, dtype=torch.int32).view(sequences, blocks)
    if kind == "apart":
        grown = torch.arange(sequences * blocks, dtype=torch.int32).view(blocks, sequences)
        return grown.T.contiguous()
    return torch.randperm(sequences * blocks, dtype=torch.int32).view(sequences, blocks)
