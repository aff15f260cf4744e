"""Outputs that may end early: more run at once, and who is preempted loses nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lm_offload.errors import StorageError
from lm_offload.kvcache.blocks import BlockAllocator
from lm_offload.kvcache.cache import blocks_for
from lm_offload.sampling import SamplingParams
from lm_offload.scheduler.output_lengths import OutputLengths
from lm_offload.scheduler.scheduler import Scheduler
from lm_offload.sequence import Sequence
from tests.scheduler.harness import SHAPES, Model, make_sequences, run_all


@given(
    SHAPES, st.integers(0, 8), st.integers(1, 5), st.integers(0, 60), st.sampled_from([b"r", None])
)
def test_the_same_tokens_in_any_budget_and_every_block_comes_back(
    shapes, spare, in_flight, more_rows, root
):
    wanted = make_sequences(shapes, root)
    roomy = BlockAllocator(sum(blocks_for(sequence.max_tokens) for sequence in wanted))
    run_all(wanted, Scheduler(roomy, 10_000, len(wanted)), roomy)
    sequences = make_sequences(shapes, root, ignore_eos=False)
    allocator = BlockAllocator(max(blocks_for(one.max_tokens) for one in sequences) + spare)
    scheduler = Scheduler(allocator, in_flight + more_rows, in_flight)
    model = run_all(sequences, scheduler, allocator)
    assert [one.output for one in sequences] == [one.output for one in wanted]
    cached = sum(sequence.num_cached for sequence in sequences)
    assert model.rows - model.redone == sum(one.num_tokens - 1 for one in sequences) - cached
    assert bool(model.redone) <= bool(scheduler.preemptions)


def ended(tokens: int, reason: str = "stop", **params) -> Sequence:
    sequence = Sequence(0, [7] * 5, SamplingParams(max_tokens=100, **params))
    sequence.output, sequence.finish_reason = [1] * tokens, reason
    return sequence


def test_outputs_are_expected_to_be_as_long_as_tokens_per_end():
    lengths, fresh, exact = OutputLengths(), ended(0, None), ended(0, None, ignore_eos=True)
    assert lengths.expected_tokens(fresh) == 105
    lengths.observe([ended(100, "length"), ended(9, ignore_eos=True)], [fresh])
    assert lengths.expected_tokens(fresh) == 105  # nothing has ended by itself
    lengths.observe([ended(10), ended(5)], [ended(5, None)])
    assert lengths.expected_tokens(fresh) == 5 + 60  # 120 tokens, 2 ends
    assert lengths.expected_tokens(ended(80, None)) == 105
    assert lengths.expected_tokens(exact) == 105
    assert lengths.expected_tokens(ended(0, None, ignore_eos=True, stop=("x",))) == 65


def learned(blocks: int, in_flight: int, mean: int = 8) -> tuple[BlockAllocator, Scheduler]:
    """A scheduler that expects so many tokens of each output."""
    allocator = BlockAllocator(blocks)
    scheduler = Scheduler(allocator, 1000, in_flight)
    scheduler._lengths.observe([ended(mean)], [])
    return allocator, scheduler


def admitted(scheduler: Scheduler, sequences: list[Sequence]) -> list[int]:
    scheduler._waiting.extend(sequences)
    return [chunk.sequence.index for chunk in scheduler.schedule().chunks]


def strangers(count: int, prompt: int, output: int, ignore_eos: bool = False) -> list[Sequence]:
    """Sequences with nothing in common."""
    shapes = [(index, prompt - 1, 1, output, 1) for index in range(count)]
    return make_sequences(shapes, None, ignore_eos)


def sweep(scheduler: Scheduler, model: Model) -> list[int]:
    """One sweep whose outputs all go on; who was in it."""
    batch = scheduler.schedule()
    model.run(batch)
    scheduler.advance(batch)
    for sequence in batch.sampled:
        sequence.append(0)
    return [chunk.sequence.index for chunk in batch.chunks]


def test_more_are_admitted_where_outputs_end_early():
    for ignore_eos, wanted in ((False, 6), (True, 1)):
        _, scheduler = learned(13, 9)
        found = admitted(scheduler, strangers(9, 9, 100, ignore_eos))
        assert found == list(range(wanted))


def test_the_youngest_gives_way_and_comes_back_before_others():
    sequences, model = strangers(4, 14, 60), Model()
    _, scheduler = learned(6, 3, mean=4)
    assert admitted(scheduler, sequences) == [0, 1, 2]  # 2 blocks of 16 tokens for each
    seen = [sweep(scheduler, model) for _ in range(60)]
    assert scheduler.preemptions == 2
    assert [len(indices) for indices in seen] == sorted(map(len, seen), reverse=True)
    assert seen[-1] == [0]
    sequences[0].finish_reason = "stop"
    scheduler.retire_finished()
    assert sweep(scheduler, model) == [1]
    assert sequences[1].redone_to == sequences[1].num_tokens - 2
    assert [sequence.index for sequence in scheduler._waiting] == [2, 3]


def test_blocks_for_tokens_to_come_are_given_back_before_anyone_is_preempted():
    sequences, model = strangers(2, 14, 60), Model()
    _, scheduler = learned(8, 2, mean=34)
    assert admitted(scheduler, sequences) == [0, 1]  # 3 blocks for each
    assert [len(one.blocks) for one in sequences] == [3, 3]
    for _ in range(50):
        assert sweep(scheduler, model) == [0, 1]
    assert scheduler.preemptions == 0
    assert [len(one.blocks) for one in sequences] == [4, 4]


def test_who_finds_too_few_blocks_after_a_loss_is_given_up():
    sequences, model = strangers(3, 14, 60), Model()
    _, scheduler = learned(5, 1, mean=4)
    scheduler.add(sequences)
    scheduler._lengths.observe([ended(4)], [])
    sweep(scheduler, model)
    lost = {sequences[0].blocks[0]: StorageError("The disk failed.")}
    assert scheduler.holders(lost) == sequences[:1]
    scheduler.lose(sequences[:1], lost)
    assert scheduler.losses.take_failed() == []
    while sequences[0].finish_reason is None:  # 4 blocks are left, it would need 5
        seen = sweep(scheduler, model)
    assert seen == [1]
    assert sequences[0].error == "The disk failed."
    assert sequences[0].num_tokens == 65
    assert scheduler.losses.take_failed() == sequences[:1]


def test_a_new_run_learns_anew():
    _, scheduler = learned(8, 4)
    scheduler.add(sequences := make_sequences([(index, 8, 1, 100, 1) for index in range(2)], None))
    assert len(scheduler.schedule().chunks) == 1
    scheduler.drop_all()
    assert not any(sequence.blocks for sequence in sequences)
