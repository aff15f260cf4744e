"""From a batch of sequences to the index tensors that one micro-batch of a sweep computes with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lm_offload.arch.config import ModelConfig
from lm_offload.kvcache.cache import numbered_blocks
from lm_offload.micro_batch import MicroBatch
from lm_offload.models.rotary import rotary_tables
from lm_offload.pipeline.chunked_rows import in_chunks
from lm_offload.quant.kv_format import BLOCK_TOKENS
from lm_offload.sequence import Batch, Chunk

TABLE_STEP = 64  # blocks: tables have the same shape for many sweeps
Rows = NDArray[np.int64]  # of each piece
BlocksOf = Callable[[Chunk], Sequence[int]]  # block numbers in order of position
CPU = torch.device("cpu")


@dataclass(frozen=True)
class SweepInput:
    """All index tensors of one sweep, made once and used by every layer."""

    micro_batches: tuple[MicroBatch, ...]
    token_ids: Tensor  # [T] int64, all rows of the sweep
    logit_rows: Tensor  # [R] int64, the rows whose logits are wanted
    is_decode: bool  # one row of each sequence


def build_sweep_input(
    config: ModelConfig,
    batch: Batch,
    max_rows: int,
    blocks_of: BlocksOf = numbered_blocks,
    turn_rows: int = 0,
) -> SweepInput:
    """Flatten `batch` into rows and cut them into micro-batches of at most `max_rows`.

    One of them ends after `turn_rows` in any case.
    """
    token_ids: list[int] = []
    logit_rows: list[int] = []
    for chunk in batch.chunks:
        token_ids += chunk.token_ids
        logit_rows += range(len(token_ids) - chunk.num_logits, len(token_ids))
    groups = _cut(batch.chunks, max_rows, turn_rows)
    micro_batches = _built(config, groups, 0, blocks_of)
    is_decode = len(token_ids) == len(logit_rows) == len(batch.chunks)
    return SweepInput(micro_batches, _tensor(token_ids), _tensor(logit_rows), is_decode)


def on_device(sweep: SweepInput, device: torch.device, cache_device: torch.device) -> SweepInput:
    """As `MicroBatch.on`; token ids stay as well."""
    if device == CPU:
        return sweep
    micro_batches = tuple(rows.on(device, cache_device) for rows in sweep.micro_batches)
    return replace(sweep, micro_batches=micro_batches, logit_rows=sweep.logit_rows.to(device))


def divided(rows: MicroBatch, first: int) -> tuple[MicroBatch | None, MicroBatch | None]:
    """Its `first` rows and the others, each if there are any, as attention needs them.

    A sequence begins where it is divided.
    """
    if first in (0, rows.num_tokens):
        return (rows, None) if first else (None, rows)
    starts, cut = rows.query_starts, rows.start + first
    inner = divided(rows.chunked, first) if rows.chunked else (None, None)
    sequences = int(torch.searchsorted(starts, first))
    before = _part(rows, slice(first), slice(sequences))
    after = _part(rows, slice(first, None), slice(sequences, None))
    return (
        replace(before, stop=cut, query_starts=starts[: sequences + 1], chunked=inner[0]),
        replace(after, start=cut, query_starts=starts[sequences:] - first, chunked=inner[1]),
    )


def _part(batch: MicroBatch, rows: slice, sequences: slice) -> MicroBatch:
    """What some rows, of some sequences, have of their own."""
    return replace(
        batch,
        positions=batch.positions[rows],
        context_lens=batch.context_lens[sequences],
        block_tables=batch.block_tables[sequences],
        slots=batch.slots[rows],
        rotary=(),
    )


def build_micro_batches(
    config: ModelConfig,
    chunks: Iterable[Chunk],
    max_rows: int,
    first_row: int,
    blocks_of: BlocksOf,
) -> tuple[MicroBatch, ...]:
    """`chunks`, whose rows begin at `first_row`, in micro-batches of at most `max_rows`."""
    return _built(config, _cut(chunks, max_rows), first_row, blocks_of)


def _tensor(numbers: list[int]) -> Tensor:
    """[N] int64; by numpy, which takes a tenth of the time for a long prompt."""
    return torch.from_numpy(np.array(numbers, dtype=np.int64))


def _built(
    config: ModelConfig, groups: Iterable[list[Chunk]], first_row: int, blocks_of: BlocksOf
) -> tuple[MicroBatch, ...]:
    micro_batches: list[MicroBatch] = []
    for pieces in groups:
        micro_batches.append(_build(config, pieces, first_row, blocks_of))
        first_row = micro_batches[-1].stop
    return tuple(micro_batches)


def _cut(chunks: Iterable[Chunk], max_rows: int, turn_rows: int = 0) -> Iterator[list[Chunk]]:
    """Groups of chunks of at most `max_rows` rows; a long chunk continues in the next group.

    One ends after `turn_rows`, and one with each wave: in it a sequence is in one place, and reads
    no state that others make.
    """
    group: list[Chunk] = []
    turn_left = turn_rows
    room = min(max_rows, turn_left or max_rows)
    for chunk in chunks:
        if group and chunk.wave != group[-1].wave:
            yield group
            group, room = [], min(max_rows, turn_left or max_rows)
        start = chunk.start
        while start < chunk.stop:
            stop = min(chunk.stop, start + room)
            group.append(chunk.part(start, stop))
            room -= stop - start
            turn_left = max(turn_left - (stop - start), 0)
            start = stop
            if room == 0:
                yield group
                group, room = [], min(max_rows, turn_left or max_rows)
    if group:
        yield group


def _build(
    config: ModelConfig, pieces: list[Chunk], first_row: int, blocks_of: BlocksOf
) -> MicroBatch:
    starts = np.array([piece.start for piece in pieces])
    stops = np.array([piece.stop for piece in pieces])
    lengths = stops - starts
    query_starts = np.concatenate(([0], lengths.cumsum()))
    tables = _block_tables([blocks_of(piece) for piece in pieces])
    owners = np.repeat(np.arange(len(pieces)), lengths)
    positions = np.arange(query_starts[-1]) + (starts - query_starts[:-1])[owners]
    blocks = tables[owners, positions // BLOCK_TOKENS].astype(np.int64)
    position_tensor = torch.from_numpy(positions)
    rows = MicroBatch(
        start=first_row,
        stop=first_row + int(query_starts[-1]),
        positions=position_tensor,
        query_starts=torch.from_numpy(query_starts.astype(np.int32)),
        context_lens=torch.from_numpy(stops.astype(np.int32)),
        block_tables=torch.from_numpy(tables),
        slots=torch.from_numpy(blocks * BLOCK_TOKENS + positions % BLOCK_TOKENS),
        states=_states(pieces) if config.recurrent else None,
        loads=tuple((it.loads, it.sequence.lane) for it in pieces if it.loads is not None),
        saves=tuple((it.sequence.lane, it.saves) for it in pieces if it.saves is not None),
        rotary=rotary_tables(config, position_tensor, longest_of(config, pieces, lengths)),
    )
    if config.chunk_tokens is None:
        return rows
    return replace(rows, chunked=in_chunks(rows, config.chunk_tokens, BLOCK_TOKENS))


def _states(pieces: list[Chunk]) -> Tensor:
    """[S] int32, the slots of recurrent states."""
    return torch.tensor([piece.sequence.lane for piece in pieces], dtype=torch.int32)


def longest_of(config: ModelConfig, pieces: Iterable[Chunk], rows: Rows) -> Tensor | None:
    """The longest that each row's sequence may become, where a rope depends on it."""
    if not any(rope.depends_on_length for rope in config.ropes):
        return None
    return torch.from_numpy(np.repeat([piece.sequence.max_tokens for piece in pieces], rows))


def _block_tables(numbers: list[Sequence[int]]) -> NDArray[np.int32]:
    """[S, B] int32, rows padded with block 0, which no kernel reads past a context's end."""
    lengths = np.array([len(blocks) for blocks in numbers])
    width = -(-int(lengths.max()) // TABLE_STEP) * TABLE_STEP
    tables = np.zeros((len(numbers), width), dtype=np.int32)
    all_blocks = np.fromiter(chain.from_iterable(numbers), np.int32, int(lengths.sum()))
    tables[np.arange(width) < lengths[:, np.newaxis]] = all_blocks
    return tables
