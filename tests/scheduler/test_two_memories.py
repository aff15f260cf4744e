"""KV blocks in two memories: the same tokens, each sequence in one, and all of them come back."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from lm_offload.kvcache.blocks import BlockAllocator
from lm_offload.kvcache.cache import blocks_for
from lm_offload.scheduler.scheduler import Scheduler
from tests.scheduler.harness import SHAPES, make_sequences, run_all


@dataclass(frozen=True)
class Both:
    """Two allocators as one, for counting."""

    first: BlockAllocator
    second: BlockAllocator

    @property
    def num_blocks(self) -> int:
        return self.first.num_blocks + self.second.num_blocks

    @property
    def num_free(self) -> int:
        return self.first.num_free + self.second.num_free


def two(first: int, second: int) -> Both:
    return Both(BlockAllocator(first), BlockAllocator(second, first=first))


@given(
    SHAPES,
    st.integers(1, 12),
    st.integers(0, 8),
    st.integers(1, 5),
    st.integers(0, 60),
    st.sampled_from([b"r", None]),
    st.booleans(),
)
def test_the_same_tokens_as_in_one_memory(
    shapes, first, spare, in_flight, more_rows, root, swapped
):
    wanted = make_sequences(shapes, root)
    roomy = BlockAllocator(sum(blocks_for(sequence.max_tokens) for sequence in wanted))
    run_all(wanted, Scheduler(roomy, 10_000, len(wanted)), roomy)
    sequences = make_sequences(shapes, root, ignore_eos=False)
    sizes = first, max(blocks_for(one.max_tokens) for one in sequences) + spare
    both = two(*(reversed(sizes) if swapped else sizes))
    scheduler = Scheduler(both.first, in_flight + more_rows, in_flight, more=both.second)
    run_all(sequences, scheduler, both)
    assert [one.output for one in sequences] == [one.output for one in wanted]


def test_the_first_memory_is_filled_first_and_its_rows_come_first():
    sequences = make_sequences([(0, 20, 1, 8, 1), (1, 60, 1, 8, 1), (2, 20, 1, 8, 1)], None)
    both = two(4, 8)
    scheduler = Scheduler(both.first, 200, 3, more=both.second)
    scheduler.add(sequences)
    homes = [(it.sequence.index, it.sequence.blocks[0] >= 4) for it in scheduler.schedule().chunks]
    assert homes == [(0, False), (2, False), (1, True)]


def test_what_a_memory_is_too_small_for_goes_to_the_other():
    (sequence,) = make_sequences([(0, 20, 1, 60, 1)], None, ignore_eos=False)
    both = two(3, 8)  # enough for the prompt, not for its longest output
    scheduler = Scheduler(both.first, 200, 3, more=both.second)
    scheduler.add([sequence])
    scheduler.schedule()
    assert scheduler.blocks.home_of(sequence) == 1
