"""Rows that see their own chunk: attention over pieces is attention with a mask of chunks."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from lm_offload.kernels.torch_kernels import TorchKernels
from lm_offload.micro_batch import MicroBatch
from lm_offload.pipeline.chunked_rows import in_chunks
from lm_offload.pipeline.micro_batches import divided
from tests.kernels.implementations import all_kernels

CHUNK, BLOCK, HEADS, DIM = 32, 16, 2, 16
SPANS = [(0, 75), (31, 32), (32, 33), (60, 100)]  # first and one past the last position


def rows_of(spans, generator):
    """A batch of rows at these positions, its blocks scattered over a cache."""
    lengths = [stop - start for start, stop in spans]
    blocks = torch.randperm(len(spans) * 8, generator=generator).view(len(spans), 8)
    positions = torch.cat([torch.arange(start, stop) for start, stop in spans])
    return MicroBatch(
        start=0,
        stop=sum(lengths),
        positions=positions,
        query_starts=torch.tensor([0, *lengths]).cumsum(0).to(torch.int32),
        context_lens=torch.tensor([stop for _, stop in spans], dtype=torch.int32),
        block_tables=blocks.to(torch.int32),
        slots=torch.zeros(sum(lengths), dtype=torch.int64),
    )


def expected(q, keys, values, rows):
    """Row by row, over the tokens of its chunk up to itself."""
    out, starts = [], rows.query_starts.tolist()
    for sequence, (first, stop) in enumerate(pairwise(starts)):
        table = rows.block_tables[sequence].long()
        k, v = (it[table].transpose(0, 1).flatten(1, 2) for it in (keys, values))
        for row in range(first, stop):
            at = int(rows.positions[row])
            seen = slice(at // CHUNK * CHUNK, at + 1)
            weights = torch.einsum("hd,htd->ht", q[row], k[:, seen]).mul(DIM**-0.5).softmax(-1)
            out.append(torch.einsum("ht,htd->hd", weights, v[:, seen]))
    return torch.stack(out)


@pytest.fixture
def case():
    generator = torch.Generator().manual_seed(1)
    rows = rows_of(SPANS, generator)
    shape = (len(SPANS) * 8, HEADS, BLOCK, DIM)
    keys, values = (torch.randn(shape, generator=generator) for _ in range(2))
    return torch.randn(rows.num_tokens, HEADS, DIM, generator=generator), keys, values, rows


@pytest.mark.parametrize("kernels", all_kernels(), ids=lambda it: it.name)
def test_a_row_sees_its_chunk_up_to_itself(case, kernels):
    q, keys, values, rows = case
    keys = keys.transpose(2, 3).contiguous().transpose(2, 3)  # as the cache holds them
    out = torch.empty_like(q)
    kernels.attention(q, keys, values, in_chunks(rows, CHUNK, BLOCK), DIM**-0.5, out)
    torch.testing.assert_close(out, expected(q, keys, values, rows), atol=1e-5, rtol=0)


@pytest.mark.parametrize("first", [75, 76, 77])
def test_parts_of_a_batch_have_the_chunks_of_their_rows(case, first):
    q, keys, values, rows = case
    rows = MicroBatch(**{**vars(rows), "chunked": in_chunks(rows, CHUNK, BLOCK)})
    out = torch.empty_like(q)
    for part in divided(rows, first):
        span = slice(part.start, part.stop)
        TorchKernels(1).attention(q[span], keys, values, part.chunked, DIM**-0.5, out[span])
    torch.testing.assert_close(out, expected(q, keys, values, rows), atol=1e-5, rtol=0)


def test_short_sequences_stay_as_they_are():
    rows = rows_of([(0, 20), (31, 32)], torch.Generator().manual_seed(0))
    assert in_chunks(rows, CHUNK, BLOCK) is rows
