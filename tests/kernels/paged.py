"""Ragged batches over a paged cache, and attention as a textbook has it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from lm_offload.micro_batch import MicroBatch
from lm_offload.quant.format import format_of_dtype
from lm_offload.quant.kv_blocks import CacheShape, blocks_in
from lm_offload.quant.kv_format import BLOCK_TOKENS


@dataclass(frozen=True)
class Case:
    """Sequences of `rows` new tokens that end a context of `contexts` tokens."""

    rows: tuple[int, ...]
    contexts: tuple[int, ...]
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 16
    dtype: torch.dtype = torch.float32


@dataclass(frozen=True)
class Inputs:
    """Random queries and a cache whose unused tokens are NaN."""

    q: Tensor
    keys: Tensor
    values: Tensor
    batch: MicroBatch


def make_batch(rows: list[int], contexts: list[int], tables: Tensor) -> MicroBatch:
    """The batch of these sequences; tensors that attention does not read are empty."""
    starts = torch.tensor([0, *rows]).cumsum(0).int()
    lens = torch.tensor(contexts, dtype=torch.int32)
    unused = torch.empty(0, dtype=torch.int64)
    return MicroBatch(0, sum(rows), unused, starts, lens, tables, unused, unused)


def empty_cache(blocks: int, kv_heads: int, head_dim: int, dtype: torch.dtype) -> list[Tensor]:
    """Keys and values [blocks, kv_heads, BLOCK_TOKENS, head_dim] of NaN."""
    shape = CacheShape(blocks, kv_heads, head_dim, format_of_dtype(str(dtype)[6:]))
    memory = torch.full((2, shape.size_bytes // dtype.itemsize), torch.nan).to(dtype)
    parts = memory.view(torch.uint8)
    return [blocks_in(parts[0], shape, "tokens"), blocks_in(parts[1], shape, "channels")]


def make_inputs(case: Case, seed: int = 0) -> Inputs:
    """Random inputs for a case, blocks in random order."""
    generator = torch.Generator().manual_seed(seed)
    width = max(-(-context // BLOCK_TOKENS) for context in case.contexts)
    count = width * len(case.contexts)
    tables = torch.randperm(count, generator=generator).int().reshape(-1, width)
    caches = empty_cache(count, case.kv_heads, case.head_dim, case.dtype)
    for table, context in zip(tables, case.contexts, strict=True):
        for position in range(context):
            block, offset = table[position // BLOCK_TOKENS], position % BLOCK_TOKENS
            for cache in caches:
                token = torch.randn(case.kv_heads, case.head_dim, generator=generator)
                cache[block, :, offset] = token.to(case.dtype)
    q = torch.randn(sum(case.rows), case.heads, case.head_dim, generator=generator)
    return Inputs(q, *caches, make_batch(list(case.rows), list(case.contexts), tables))


@dataclass(frozen=True)
class AttendedRow:
    """A row of queries, what it sees in float64, and how much of each position it takes."""

    row: int
    first: int  # the position of the first token that it sees
    k: Tensor  # [seen, heads, head_dim]
    v: Tensor
    scores: Tensor  # [heads, seen], before the softcap
    weights: Tensor  # [heads, seen]

    @property
    def out(self) -> Tensor:
        """[heads, head_dim]."""
        return torch.einsum("ht,thd->hd", self.weights, self.v)


def reference_attention(
    inputs: Inputs,
    scale: float,
    window: int | None,
    softcap: float | None,
    sinks: Tensor | None = None,
) -> Tensor:
    """Softmax attention in float64, row by row; a sink is a score whose value is zero."""
    out = torch.empty_like(inputs.q)
    for row in attended_rows(inputs, scale, window, softcap, sinks):
        out[row.row] = row.out
    return out


def attended_rows(
    inputs: Inputs,
    scale: float,
    window: int | None,
    softcap: float | None,
    sinks: Tensor | None = None,
) -> Iterator[AttendedRow]:
    """Each row of a batch."""
    batch = inputs.batch
    for index, context in enumerate(batch.context_lens.tolist()):
        start, stop = batch.query_starts[index : index + 2].tolist()
        for row in range(start, stop):
            position = context - (stop - row)
            first = 0 if window is None else max(0, position - window + 1)
            seen = torch.arange(first, position + 1)
            k, v = (_tokens(cache, batch.block_tables[index], seen) for cache in _kv(inputs))
            group = inputs.q.shape[1] // k.shape[1]
            k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
            scores = torch.einsum("hd,thd->ht", inputs.q[row].double(), k) * scale
            yield AttendedRow(row, first, k, v, scores, _weights(scores, softcap, sinks))


def _weights(scores: Tensor, softcap: float | None, sinks: Tensor | None) -> Tensor:
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if sinks is None:
        return scores.softmax(-1)
    return torch.cat([scores, sinks.double()[:, None]], dim=1).softmax(-1)[:, :-1]


def _kv(inputs: Inputs) -> tuple[Tensor, Tensor]:
    return inputs.keys, inputs.values


def _tokens(cache: Tensor, table: Tensor, positions: Tensor) -> Tensor:
    """The cached tokens at these positions as [tokens, kv_heads, head_dim] in float64."""
    block_tokens = cache.shape[2]
    return cache[table[positions // block_tokens].long(), :, positions % block_tokens].double()
