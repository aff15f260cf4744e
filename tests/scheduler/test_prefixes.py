"""Prompts with common prefixes: computed once, in an order in which everything is there in time."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from lm_offload.kvcache.blocks import BlockAllocator
from lm_offload.kvcache.cache import blocks_for
from lm_offload.quant.kv_blocks import BLOCK_TOKENS
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


def make_sequences(shapes, root: bytes | None = b"root") -> list[Sequence]:
    draw = random.Random(1)
    sequences: list[Sequence] = []
    for text, length, tail, output, count in shapes:
        tokens = [text] * length + [draw.randrange(3) for _ in range(tail)]
        for seed in range(count):
            params = SamplingParams(max_tokens=output)
            sequences.append(Sequence(len(sequences), tokens, params, seed=seed, prefix_root=root))
    return sequences


class Model:
    """A cache that holds, in place of K and V, all the tokens that they depend on."""

    def __init__(self) -> None:
        self.slots: dict[tuple[int, int], tuple[int, ...]] = {}
        self.rows = 0

    def run(self, batch: Batch) -> None:
        """Row after row, each of which must find everything before it."""
        for chunk in batch.chunks:
            sequence = chunk.sequence
            tokens = sequence.tokens(0, chunk.stop)
            self.rows += chunk.stop - chunk.start
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
            sequence.output.append(draw.randrange(3))
            if len(sequence.output) == sequence.params.max_tokens:
                sequence.finish_reason = "length"
            elif draw.random() < 0.1:
                sequence.finish_reason = "stop"
        return scheduler.retire_finished()


def run_all(sequences: list[Sequence], scheduler: Scheduler, allocator: BlockAllocator) -> Model:
    model, blocks = Model(), scheduler.blocks
    scheduler.add(sequences)
    limit = sum(sequence.max_tokens for sequence in sequences)
    for _ in range(limit):
        if not scheduler.has_work:
            break
        batch = scheduler.schedule()
        assert batch.num_tokens
        held = {block for sequence in sequences for block in sequence.blocks}
        assert blocks.num_used == len(held)
        assert len(held) + blocks.num_cached + allocator.num_free == allocator.num_blocks
        model.run(batch)
        model.finish(scheduler, batch)
    assert not scheduler.has_work
    assert blocks.num_used == 0
    assert blocks.num_cached + allocator.num_free == allocator.num_blocks
    return model


@given(SHAPES, st.integers(0, 8), st.integers(1, 5), st.integers(0, 60))
def test_all_finish_with_the_same_tokens_in_any_budget(shapes, spare, in_flight, more_rows):
    made = []
    for root in (b"root", None):
        sequences = make_sequences(shapes, root)
        most = max(blocks_for(sequence.max_tokens) for sequence in sequences)
        allocator = BlockAllocator(most + spare)
        scheduler = Scheduler(allocator, in_flight + more_rows, in_flight)
        model = run_all(sequences, scheduler, allocator)
        made.append(([sequence.output for sequence in sequences], model.rows))
        cached = sum(sequence.num_cached for sequence in sequences)
        computed = sum(sequence.num_tokens - 1 for sequence in sequences)
        assert model.rows == computed - cached
    assert made[0][0] == made[1][0]


@given(SHAPES)
def test_a_second_call_finds_what_the_first_has_left(shapes):
    sequences = make_sequences(shapes)
    allocator = BlockAllocator(4 * sum(blocks_for(one.max_tokens) for one in sequences))
    scheduler = Scheduler(allocator, 1000, len(sequences))
    run_all(sequences, scheduler, allocator)
    again = make_sequences(shapes)
    scheduler.add(again)
    batch = scheduler.schedule()
    assert {chunk.sequence.index for chunk in batch.chunks} == set(range(len(again)))
    for chunk in batch.chunks:
        length = len(chunk.sequence.prompt)
        assert chunk.start == chunk.sequence.num_cached == (length - 1) // BLOCK_TOKENS * 16
        assert chunk.completes


def prefixed(count: int) -> list[Sequence]:
    shapes = [(0, 64, 1 + index, 4, 1) for index in range(count)]
    return make_sequences(shapes)


def test_dependants_follow_in_the_sweep_that_computes_their_prefix():
    scheduler = Scheduler(BlockAllocator(40), 1000, 8)
    scheduler.add(prefixed(3))
    chunks = [(chunk.start, chunk.stop) for chunk in scheduler.schedule().chunks]
    assert chunks == [(0, 65), (64, 66), (64, 67)]


def test_dependants_wait_until_their_prefix_is_there():
    scheduler = Scheduler(BlockAllocator(40), 48, 8)
    sequences = prefixed(3)
    scheduler.add(sequences)
    shapes, model = [], Model()
    while not all(sequence.output for sequence in sequences):
        batch = scheduler.schedule()
        shapes.append([(c.sequence.index, c.start, c.stop) for c in batch.chunks])
        model.run(batch)
        model.finish(scheduler, batch)
    assert shapes == [[(0, 0, 48)], [(0, 48, 65), (1, 64, 66), (2, 64, 67)]]


def test_strangers_run_beside_those_who_share():
    first, second, stranger = make_sequences([(0, 64, 1, 4, 2), (1, 20, 1, 4, 1)])
    scheduler = Scheduler(BlockAllocator(40), 70, 8)
    scheduler.add([first, second, stranger])
    chunks = scheduler.schedule().chunks
    assert [(c.sequence.index, c.start, c.stop) for c in chunks] == [
        (0, 0, 65),
        (1, 64, 65),
        (2, 0, 4),
    ]


def test_more_sequences_are_admitted_where_they_share():
    sequences = prefixed(6)
    scheduler = Scheduler(BlockAllocator(4 + 6), 1000, 8)
    scheduler.add(sequences)
    assert len(scheduler.schedule().chunks) == 6


def test_drop_all_keeps_what_was_computed():
    allocator = BlockAllocator(40)
    scheduler, model = Scheduler(allocator, 70, 8), Model()
    scheduler.add(prefixed(2))
    batch = scheduler.schedule()
    model.run(batch)
    model.finish(scheduler, batch)
    scheduler.schedule()
    scheduler.drop_all()
    assert (scheduler.blocks.num_used, scheduler.blocks.num_cached) == (0, 4)
    assert allocator.num_free == 36
