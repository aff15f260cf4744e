"""The input of a decode sweep that follows another: that one's index tensors, one token further.

::

    sweep n      positions  7  12    lengths  8  13    slots  39  92    tables  [2] [5]
    sweep n + 1  positions  8  13    lengths  9  14    slots  40  93    tables  as they are

To make them anew takes some forty calls of numpy and torch. They cost a tenth of a small model's
sweep, and several times as much where weights have just been through the caches.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray

from lm_offload.arch.config import ModelConfig
from lm_offload.models.rotary import rotary_tables
from lm_offload.pipeline.micro_batches import BlocksOf, SweepInput, longest_of
from lm_offload.quant.kv_format import BLOCK_TOKENS
from lm_offload.sequence import Batch, Chunk

ROTARY_ROWS = 512  # of tables that are made at once, for sweeps to come


class Continued:
    """Knows the last sweep; its tensors are moved on where the next one is the same otherwise."""

    def __init__(self, config: ModelConfig, blocks_of: BlocksOf) -> None:
        self._config = config
        self._blocks_of = blocks_of
        self._last: _Last | None = None

    def begin(self, batch: Batch, sweep: SweepInput) -> None:
        """`sweep` is the input of `batch`, whose tensors nobody else changes any more."""
        goes_on = sweep.is_decode and len(sweep.micro_batches) == 1 and _is_plain(sweep)
        self._last = _Last(self._config, batch, sweep, self._blocks_of) if goes_on else None

    def follow(self, batch: Batch) -> SweepInput | None:
        """The input of `batch` if it is the last one a token later."""
        last = self._last
        if last is None or not last.is_followed_by(batch):
            return None
        return last.moved_on(batch)


class _Last:
    """A sweep, and its tensors as arrays on the same memory."""

    def __init__(
        self, config: ModelConfig, batch: Batch, sweep: SweepInput, blocks_of: BlocksOf
    ) -> None:
        (rows,) = sweep.micro_batches
        self._sweep = sweep
        self._blocks_of = blocks_of
        self._chunks = batch.chunks
        self._lanes = [chunk.sequence.lane for chunk in batch.chunks]
        self._blocks = [list(blocks_of(chunk)) for chunk in batch.chunks]
        self._tables = rows.block_tables.numpy()
        self._token_ids, self._slots = sweep.token_ids.numpy(), rows.slots.numpy()
        self._counts = rows.positions.numpy(), rows.context_lens.numpy()
        self._rotary = _RotarySteps(config, batch, self._counts[0])
        self._turned = [table.numpy() for table in chain.from_iterable(rows.rotary)]

    def is_followed_by(self, batch: Batch) -> bool:
        """Whether all of its sequences, and no others, have one token more."""
        if len(batch.chunks) != len(self._chunks):
            return False
        lanes = [chunk.sequence.lane for chunk in batch.chunks]
        return lanes == self._lanes and all(map(_follows, self._chunks, batch.chunks))

    def moved_on(self, batch: Batch) -> SweepInput | None:
        """The input of `batch`, which follows; None where its tables have become too narrow."""
        blocks = [self._blocks_of(chunk) for chunk in batch.chunks]
        if max(map(len, blocks)) > self._tables.shape[1]:
            return None
        for row, (known, now) in enumerate(zip(self._blocks, blocks, strict=True)):
            if known != now:
                self._tables[row, : len(now)] = now
                self._blocks[row] = list(now)
        for counted in self._counts:
            counted += 1
        self._slots[:] = [
            each[-1] * BLOCK_TOKENS + chunk.start % BLOCK_TOKENS
            for each, chunk in zip(blocks, batch.chunks, strict=True)
        ]
        self._token_ids[:] = [chunk.sequence.output[-1] for chunk in batch.chunks]
        for table, values in zip(self._turned, self._rotary.next(), strict=True):
            table[:] = values
        self._chunks = batch.chunks
        return self._sweep


class _RotarySteps:
    """Rotary tables of the sweeps to come, some of them made at once."""

    def __init__(self, config: ModelConfig, batch: Batch, positions: NDArray[np.int64]) -> None:
        """`positions` [T] are those of the sweep that is due, and change with it."""
        self._config = config
        self._positions = positions
        self._steps = max(ROTARY_ROWS // len(positions), 1)
        repeated = np.ones(len(positions), dtype=np.int64)
        longest = longest_of(config, batch.chunks, repeated)
        self._longest = None if longest is None else longest.repeat(self._steps)
        self._left: Iterator[tuple[NDArray[np.float32], ...]] = iter(())

    def next(self) -> tuple[NDArray[np.float32], ...]:
        """Cosines and sines [T, rotary_dim / 2] of each kind, of the positions as they are now."""
        if not self._config.ropes:
            return ()
        if (found := next(self._left, None)) is None:
            self._left = self._made()
            found = next(self._left)
        return found

    def _made(self) -> Iterator[tuple[NDArray[np.float32], ...]]:
        steps = np.arange(self._steps)[:, np.newaxis]
        positions = torch.from_numpy((self._positions + steps).ravel())
        pairs = rotary_tables(self._config, positions, self._longest)
        tables = [table.numpy() for table in chain.from_iterable(pairs)]
        by_step = (table.reshape(self._steps, -1, table.shape[1]) for table in tables)
        return zip(*by_step, strict=True)  # views, one step at a time


def _is_plain(sweep: SweepInput) -> bool:
    """Whether nothing of its rows depends on more than tokens, positions and blocks."""
    (rows,) = sweep.micro_batches
    return rows.chunked is None and not rows.loads and not rows.saves


def _follows(last: Chunk, chunk: Chunk) -> bool:
    """Whether a chunk is the token that the last one gave, and nothing but that is wanted of it."""
    sequence = chunk.sequence
    goes_on = sequence is last.sequence and chunk.start == last.stop == chunk.stop - 1
    decodes = goes_on and len(sequence.prompt) < chunk.stop and chunk.completes
    return decodes and chunk.loads is None and chunk.saves is None
