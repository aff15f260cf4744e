from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lm_offload.kvcache.blocks import BlockAllocator
from lm_offload.kvcache.cache import blocks_for
from lm_offload.sampling import SamplingParams
from lm_offload.scheduler.scheduler import Scheduler
from lm_offload.sequence import Batch, Sequence

LENGTHS = st.lists(st.tuples(st.integers(1, 70), st.integers(1, 20)), min_size=1, max_size=12)


def make_sequences(lengths) -> list[Sequence]:
    return [
        Sequence(index, [7] * prompt, SamplingParams(max_tokens=output))
        for index, (prompt, output) in enumerate(lengths)
    ]


def finish_sweep(scheduler: Scheduler, batch: Batch) -> list[Sequence]:
    """What the engine does after a sweep, with the number of the sequence as its tokens."""
    scheduler.advance(batch)
    for sequence in batch.sampled:
        sequence.output.append(sequence.index)
        if len(sequence.output) == sequence.params.max_tokens:
            sequence.finish_reason = "length"
    return scheduler.retire_finished()


def most_blocks(sequences: list[Sequence]) -> int:
    return max(blocks_for(sequence.max_tokens) for sequence in sequences)


@given(LENGTHS, st.integers(0, 8), st.integers(1, 5), st.integers(0, 60))
def test_every_sequence_finishes_and_every_block_comes_back(lengths, spare, in_flight, more_rows):
    sequences = make_sequences(lengths)
    allocator = BlockAllocator(most_blocks(sequences) + spare)
    scheduler = Scheduler(allocator, in_flight + more_rows, in_flight)
    scheduler.add(sequences)
    sweeps = 0
    while scheduler.has_work:
        batch = scheduler.schedule()
        assert 0 < batch.num_tokens <= in_flight + more_rows
        assert len(batch.chunks) <= in_flight
        held = sum(len(sequence.blocks) for sequence in sequences)
        assert held + allocator.num_free == allocator.num_blocks
        finish_sweep(scheduler, batch)
        sweeps += 1
        assert sweeps <= sum(prompt + output for prompt, output in lengths)
    assert allocator.num_free == allocator.num_blocks
    assert [len(sequence.output) for sequence in sequences] == [output for _, output in lengths]


@given(LENGTHS, st.integers(1, 5), st.integers(0, 60))
def test_every_position_is_computed_once_in_order(lengths, in_flight, more_rows):
    sequences = make_sequences(lengths)
    allocator = BlockAllocator(in_flight * most_blocks(sequences))
    scheduler = Scheduler(allocator, in_flight + more_rows, in_flight)
    scheduler.add(sequences)
    seen: dict[int, int] = {}
    while scheduler.has_work:
        batch = scheduler.schedule()
        for chunk in batch.chunks:
            assert chunk.start == seen.get(chunk.sequence.index, 0)
            assert len(chunk.sequence.blocks) >= blocks_for(chunk.stop)
            seen[chunk.sequence.index] = chunk.stop
        finish_sweep(scheduler, batch)
    # The last token of a sequence is never computed on.
    assert seen == {i: prompt + output - 1 for i, (prompt, output) in enumerate(lengths)}


@given(LENGTHS, st.integers(1, 4))
def test_admission_is_in_order_of_arrival(lengths, in_flight):
    sequences = make_sequences(lengths)
    scheduler = Scheduler(BlockAllocator(most_blocks(sequences) + 2), 64, in_flight)
    scheduler.add(sequences)
    admitted: list[int] = []
    while scheduler.has_work:
        batch = scheduler.schedule()
        running = [s.index for s in sequences if s.blocks and s.index not in admitted]
        admitted += running
        finish_sweep(scheduler, batch)
    assert admitted == list(range(len(sequences)))


@given(LENGTHS, st.integers(1, 5), st.integers(0, 20))
def test_no_running_decode_ever_waits(lengths, in_flight, more_rows):
    sequences = make_sequences(lengths)
    allocator = BlockAllocator(in_flight * most_blocks(sequences))
    scheduler = Scheduler(allocator, in_flight + more_rows, in_flight)
    scheduler.add(sequences)
    while scheduler.has_work:
        batch = scheduler.schedule()
        decoding = {s.index for s in sequences if s.output and not s.finish_reason}
        assert decoding <= {chunk.sequence.index for chunk in batch.chunks}
        finish_sweep(scheduler, batch)


def test_a_long_prompt_is_cut_into_chunks_beside_a_decode():
    short, long = make_sequences([(1, 9), (10, 1)])
    scheduler = Scheduler(BlockAllocator(10), 4, 2)
    scheduler.add([short, long])
    shapes = []
    while scheduler.has_work and not long.finish_reason:
        batch = scheduler.schedule()
        shapes.append([(c.sequence.index, c.start, c.stop) for c in batch.chunks])
        finish_sweep(scheduler, batch)
    assert shapes == [
        [(0, 0, 1), (1, 0, 3)],
        [(0, 1, 2), (1, 3, 6)],
        [(0, 2, 3), (1, 6, 9)],
        [(0, 3, 4), (1, 9, 10)],
    ]


def test_a_large_sequence_is_not_overtaken_by_small_ones():
    first, large, small = make_sequences([(30, 1), (60, 4), (2, 1)])
    scheduler = Scheduler(BlockAllocator(5), 64, 3)
    scheduler.add([first, large, small])
    assert [chunk.sequence for chunk in scheduler.schedule().chunks] == [first]


def test_drop_all_gives_every_block_back():
    allocator = BlockAllocator(10)
    scheduler = Scheduler(allocator, 8, 2)
    scheduler.add(make_sequences([(20, 2), (20, 2), (20, 2)]))
    scheduler.schedule()
    assert allocator.num_free < 10
    scheduler.drop_all()
    assert allocator.num_free == 10
    assert not scheduler.has_work
