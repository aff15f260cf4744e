"""Sequences of shared and own tokens, and a model whose cache says what it was computed from."""

from __future__ import annotations

import random
import time
from concurrent.futures import Future, ThreadPoolExecutor

from hypothesis import strategies as st

from lm_offload.errors import StorageError
from lm_offload.kvcache.blocks import BlockAllocator
from lm_offload.quant.kv_format import BLOCK_TOKENS
from lm_offload.sampling import SamplingParams
from lm_offload.scheduler.scheduler import Scheduler
from lm_offload.sequence import Batch, Sequence

SHAPES = st.lists(  # which of few texts, how much of it, a tail, max_tokens, completions
    st.tuples(
        st.integers(0, 2),
        st.integers(0, 70),
        st.integers(1, 20),
        st.integers(1, 40),
        st.integers(1, 3),
    ),
    min_size=1,
    max_size=8,
)


def make_sequences(shapes, root: bytes | None = b"root", ignore_eos: bool = True) -> list[Sequence]:
    draw = random.Random(1)
    sequences: list[Sequence] = []
    for text, length, tail, output, count in shapes:
        tokens = [text] * length + [draw.randrange(3) for _ in range(tail)]
        for seed in range(count):
            params = SamplingParams(max_tokens=output, ignore_eos=ignore_eos)
            sequences.append(Sequence(len(sequences), tokens, params, seed=seed, prefix_root=root))
    return sequences


class Model:
    """A cache that holds, in place of K and V, all the tokens that they depend on."""

    def __init__(self) -> None:
        self.slots: dict[tuple[int, int], tuple[int, ...]] = {}
        self.rows = 0
        self.redone = 0  # rows that had been computed before

    def run(self, batch: Batch) -> None:
        """Row after row, each of which must find everything before it."""
        for chunk in batch.chunks:
            sequence = chunk.sequence
            tokens = sequence.tokens(0, chunk.stop)
            self.rows += chunk.stop - chunk.start
            self.redone += chunk.num_redone
            assert len(sequence.blocks) * BLOCK_TOKENS >= chunk.stop
            for position in range(chunk.stop):
                seen = tuple(tokens[: position + 1])
                slot = sequence.blocks[position // BLOCK_TOKENS], position % BLOCK_TOKENS
                if position < chunk.start:
                    assert self.slots[slot] == seen
                self.slots[slot] = seen

    def finish(self, scheduler: Scheduler, batch: Batch) -> list[Sequence]:
        """A token that depends on all before it, and now and then the end."""
        scheduler.advance(batch)
        for sequence in batch.sampled:
            draw = random.Random(repr((sequence.tokens(0, sequence.num_tokens), sequence.seed)))
            sequence.append(draw.randrange(3))
            if len(sequence.output) == sequence.params.max_tokens:
                sequence.finish_reason = "length"
            elif draw.random() < 0.1:
                sequence.finish_reason = "stop"
        return scheduler.retire_finished()


def check_oldest_goes_on(sequences: list[Sequence], batch: Batch, scheduler: Scheduler) -> None:
    """Who waits for nobody else's prefix nor for the disk and came first is never left out."""
    oldest = next(sequence for sequence in sequences if not sequence.finish_reason)
    if oldest.prefix_root is None and not scheduler._swaps.is_arriving(oldest):
        assert oldest in [chunk.sequence for chunk in batch.chunks]


class Disk:
    """Slots for blocks of a model's cache; one thread moves them, sometimes late."""

    def __init__(self, model: Model, num_slots: int, breaks_at: int = 1 << 30) -> None:
        self.num_slots = num_slots
        self.written: list[int] = []  # slots in order
        self._model = model
        self._breaks_at = breaks_at  # the move that fails, and all after it
        self._moves = 0
        self._slots: dict[tuple[int, int], tuple[int, ...]] = {}
        self._thread = ThreadPoolExecutor(1)

    def write(self, block: int, slot: int) -> Future[None]:
        self.written.append(slot)
        return self._thread.submit(self._write, block, slot)

    def read(self, slot: int, block: int) -> Future[None]:
        return self._thread.submit(self._read, slot, block)

    def _write(self, block: int, slot: int) -> None:
        self._begin()
        for offset in range(BLOCK_TOKENS):
            self._slots[slot, offset] = self._model.slots[block, offset]

    def _read(self, slot: int, block: int) -> None:
        self._begin()
        for offset in range(BLOCK_TOKENS):
            self._model.slots[block, offset] = self._slots[slot, offset]

    def _begin(self) -> None:
        self._moves += 1
        time.sleep(1e-4 * (self._moves % 3))
        if self._moves > self._breaks_at:
            raise StorageError("The disk failed.")


def run_all(
    sequences: list[Sequence],
    scheduler: Scheduler,
    allocator: BlockAllocator,
    model: Model | None = None,
) -> Model:
    model, blocks = model or Model(), scheduler.blocks
    scheduler.add(sequences)
    limit = 10 * sum(sequence.max_tokens for sequence in sequences)
    for _ in range(limit):
        if not scheduler.has_work:
            break
        batch = scheduler.schedule()
        assert batch.num_tokens
        check_oldest_goes_on(sequences, batch, scheduler)
        held = {block for sequence in sequences for block in sequence.blocks}
        used = held | {move.block for move in scheduler._swaps._leaving}
        assert blocks.num_used == len(used)
        assert len(used) + blocks.num_cached + allocator.num_free == allocator.num_blocks
        model.run(batch)
        model.finish(scheduler, batch)
    assert not scheduler.has_work
    while scheduler._swaps.wait():
        pass
    assert blocks.num_used == 0
    assert blocks.num_cached + allocator.num_free == allocator.num_blocks
    return model
