"""Prompts with common prefixes: computed once, in an order in which everything is there in time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lm_offload.kvcache.blocks import BlockAllocator
from lm_offload.kvcache.cache import blocks_for
from lm_offload.quant.kv_format import BLOCK_TOKENS
from lm_offload.scheduler.scheduler import Scheduler
from lm_offload.sequence import Sequence
from tests.scheduler.harness import SHAPES, Model, make_sequences, run_all


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
