"""Rows for layers that see the positions of their own chunk alone, as Llama 4 has them.

A sequence whose rows lie in several chunks becomes as many, each of which begins with its chunk::

    chunks of 16 tokens, blocks of 4
    rows at     14 15 16 17 18       blocks  a b c d e
    become      14 15 | 0 1 2        blocks  a b c d | e

so kernels need not know of it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from lm_offload.micro_batch import MicroBatch


def in_chunks(rows: MicroBatch, chunk_tokens: int, block_tokens: int) -> MicroBatch:
    """The same rows, each seeing from the first token of its chunk on.

    A chunk is a number of whole blocks.
    """
    if not len(rows.positions) or int(rows.context_lens.max()) <= chunk_tokens:
        return rows
    positions, starts = rows.positions.numpy(), rows.query_starts.numpy()
    owners = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    chunks = positions // chunk_tokens
    begins = _beginnings(owners, chunks)
    stops = np.append(begins[1:], len(positions))
    width = min(chunk_tokens // block_tokens, rows.block_tables.shape[1])
    columns = chunks[begins, None] * (chunk_tokens // block_tokens) + np.arange(width)
    columns = np.minimum(columns, rows.block_tables.shape[1] - 1)
    tables = rows.block_tables.numpy()[owners[begins, None], columns]
    return replace(
        rows,
        query_starts=torch.from_numpy(np.append(begins, len(positions)).astype(np.int32)),
        context_lens=torch.from_numpy((positions[stops - 1] % chunk_tokens + 1).astype(np.int32)),
        block_tables=torch.from_numpy(np.ascontiguousarray(tables)),
    )


def _beginnings(owners: NDArray[np.int64], chunks: NDArray[np.int64]) -> NDArray[np.int64]:
    """The first row of each piece."""
    changes = (np.diff(owners) != 0) | (np.diff(chunks) != 0)
    return np.concatenate(([0], np.flatnonzero(changes) + 1))
