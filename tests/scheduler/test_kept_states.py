"""Models with recurrent layers: who begins behind a prefix has its state, whatever happened."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lm_offload.kvcache.blocks import BlockAllocator
from lm_offload.kvcache.cache import blocks_for
from lm_offload.kvcache.kept_states import KeptStates
from lm_offload.pipeline.micro_batches import _cut
from lm_offload.scheduler.scheduler import Scheduler
from lm_offload.sequence import Batch, Chunk, Sequence
from tests.scheduler.harness import SHAPES, Model, make_sequences, run_all


class RecurrentModel(Model):
    """States that hold, in place of numbers, all the tokens that they depend on."""

    def __init__(self, most_rows: int) -> None:
        super().__init__()
        self._most_rows = most_rows  # of a micro-batch
        self._states: dict[int, tuple[int, ...]] = {}
        self._kept: dict[int, tuple[int, ...]] = {}
        self.micro_batches: list[list[tuple[int, int, int]]] = []

    def run(self, batch: Batch) -> None:
        super().run(batch)
        self.micro_batches.clear()
        for pieces in _cut(batch.chunks, self._most_rows):
            self.micro_batches.append([(it.sequence.index, it.start, it.stop) for it in pieces])
            lanes = [piece.sequence.lane for piece in pieces]
            assert len(set(lanes)) == len(lanes)  # they are computed side by side
            for piece in pieces:
                if piece.loads is not None:
                    self._states[piece.sequence.lane] = self._kept[piece.loads]
            for piece in pieces:
                self._move_on(piece)
            for piece in pieces:
                if piece.saves is not None:
                    self._kept[piece.saves] = self._states[piece.sequence.lane]

    def _move_on(self, piece: Chunk) -> None:
        lane = piece.sequence.lane
        seen = self._states[lane] if piece.start else ()
        assert seen == tuple(piece.sequence.tokens(0, piece.start))
        self._states[lane] = (*seen, *piece.sequence.tokens(piece.start, piece.stop))


def scheduler_of(blocks: int, rows: int, in_flight: int, kept: int, cuts: bool = True) -> Scheduler:
    states = KeptStates(kept)
    return Scheduler(BlockAllocator(blocks), rows, in_flight, shares_in_sweep=cuts, kept=states)


@settings(max_examples=40)
@given(
    SHAPES,
    st.integers(0, 8),
    st.integers(1, 5),
    st.integers(0, 60),
    st.integers(0, 12),
    st.integers(1, 40),
    st.booleans(),
    st.booleans(),
)
# The state is kept, blocks before it are filled in a later wave of the sweep.
@example([(0, 45, 20, 1, 2), (0, 14, 9, 10, 2)], 4, 2, 31, 2, 1, True, False)
@example([(0, 29, 1, 19, 1), (0, 45, 20, 1, 2)], 2, 2, 31, 2, 1, True, False)
def test_every_sequence_goes_on_from_its_own_state(
    shapes, spare, in_flight, more_rows, kept, most_rows, cuts, may_end
):
    wanted = make_sequences(shapes, None)
    roomy = BlockAllocator(1000)
    run_all(wanted, Scheduler(roomy, 1000, len(wanted)), roomy)
    sequences = make_sequences(shapes, b"root", not may_end)
    allocator = BlockAllocator(max(blocks_for(one.max_tokens) for one in sequences) + spare)
    states = KeptStates(kept)
    scheduler = Scheduler(
        allocator, in_flight + more_rows, in_flight, shares_in_sweep=cuts, kept=states
    )
    model = RecurrentModel(most_rows)
    run_all(sequences, scheduler, allocator, model)
    again = make_sequences(shapes, b"root", not may_end)
    run_all(again, scheduler, allocator, model)
    for found in (sequences, again):
        assert [one.output for one in found] == [one.output for one in wanted]
    assert states.num_kept <= kept
    assert not states._expected
    assert not states._making


def run_sweep(scheduler: Scheduler, model: Model) -> Batch:
    batch = scheduler.schedule()
    model.run(batch)
    model.finish(scheduler, batch)
    return batch


def prefixed(*tails: int) -> list[Sequence]:
    return make_sequences([(0, 64, tail, 4, 1) for tail in tails])


def test_dependants_follow_in_the_sweep_that_computes_their_prefix():
    scheduler, model = scheduler_of(40, 1000, 8, 6), RecurrentModel(1000)
    scheduler.add(prefixed(1, 2, 3))
    run_sweep(scheduler, model)
    assert model.micro_batches == [[(0, 0, 64)], [(0, 64, 65), (1, 64, 66), (2, 64, 67)]]


@pytest.mark.parametrize("cuts", [True, False])
def test_they_follow_in_the_next_one_where_rows_are_short(cuts):
    scheduler, model = scheduler_of(40, 65, 8, 6, cuts), RecurrentModel(1000)
    scheduler.add(prefixed(1, 2))
    run_sweep(scheduler, model)
    assert model.micro_batches == [[(0, 0, 64)], [(0, 64, 65)]][: 1 + cuts]
    run_sweep(scheduler, model)
    assert (1, 64, 66) in model.micro_batches[0]


def test_without_slots_all_is_computed_from_the_beginning():
    scheduler, model = scheduler_of(40, 1000, 8, 0), RecurrentModel(1000)
    scheduler.add(prefixed(1, 2))
    run_sweep(scheduler, model)
    assert model.micro_batches == [[(0, 0, 65), (1, 0, 66)]]


def test_who_waits_for_one_that_leaves_begins_anew():
    scheduler, model = scheduler_of(40, 40, 8, 6), RecurrentModel(1000)
    first, second, third = prefixed(1, 2, 3)
    scheduler.add([first, second, third])
    run_sweep(scheduler, model)
    assert model.micro_batches == [[(0, 0, 40)]]
    scheduler.drop([first])
    run_sweep(scheduler, model)
    assert model.micro_batches == [[(1, 0, 32)], [(1, 32, 40)]]  # up to where others were known
    run_sweep(scheduler, model)
    assert model.micro_batches[0] == [(1, 40, 64)]
    assert (third.num_computed, third.num_cached) == (67, 64)


def test_who_waits_for_one_that_begins_anew_does_so_too():
    scheduler, model = scheduler_of(60, 40, 8, 6), RecurrentModel(1000)
    first, second, third = prefixed(1, 1, 1)
    second.prompt, third.prompt = [*[0] * 64, *[1] * 64, 1], [*[0] * 64, *[1] * 64, 2]
    scheduler.add([first, second, third])
    run_sweep(scheduler, model)
    assert third.num_shared_blocks == 8
    scheduler.drop([first])
    assert run_sweep(scheduler, model).chunks[0].sequence is second
    assert scheduler.preemptions == 2
    while scheduler.has_work:
        run_sweep(scheduler, model)
    assert third.num_cached == 128


def test_where_texts_part_is_found_by_the_third():
    """The second tells what both begin with; with few slots nothing else is kept."""
    scheduler, model = scheduler_of(400, 1000, 2, 1), RecurrentModel(1000)
    for index, starts in enumerate([[0], [0, 64], [64]]):
        ((*common,),) = [[5] * 64]
        (one,) = make_sequences([(0, 0, 1, 1, 1)])
        one.prompt = [*common, *[6 + index] * 40]
        scheduler.add([one])
        run_sweep(scheduler, model)
        assert [start for pieces in model.micro_batches for _, start, _ in pieces] == starts


def test_the_last_block_of_an_answer_is_kept_once():
    scheduler, model = scheduler_of(40, 1000, 1, 2), RecurrentModel(1000)
    (one,) = make_sequences([(0, 40, 1, 30, 1)])
    scheduler.add([one])
    while scheduler.has_work:
        run_sweep(scheduler, model)
    text = one.tokens(0, one.num_tokens)
    (longer,) = make_sequences([(0, 0, 1, 2, 1)])
    longer.prompt = [*text, 1, 1]
    scheduler.add([longer])
    run_sweep(scheduler, model)
    assert model.micro_batches[0][0][1] == (one.num_tokens - 1) // 16 * 16
    assert scheduler.blocks._kept.num_kept == 2
