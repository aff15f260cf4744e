"""Blocks with several users, and blocks that are kept for those to come."""

from __future__ import annotations

from lm_offload.kvcache.block_keys import reusable_blocks, shared_lens
from lm_offload.kvcache.blocks import BlockAllocator
from lm_offload.kvcache.shared_blocks import SharedBlocks
from lm_offload.sampling import SamplingParams
from lm_offload.sequence import Sequence


def sequence_of(prompt: list[int], max_tokens: int = 4, **params) -> Sequence:
    params = SamplingParams(max_tokens=max_tokens, **params)
    return Sequence(0, prompt, params, prefix_root=b"root")


def admit(blocks: SharedBlocks, sequence: Sequence) -> bool:
    """With its whole length."""
    return blocks.admit(sequence, sequence.max_tokens)


def compute(blocks: SharedBlocks, sequence: Sequence, stop: int) -> None:
    """As one sweep does, alone."""
    assert blocks.skip_shared(sequence, ())
    start, sequence.num_computed = sequence.num_computed, stop
    blocks.note_computed(sequence, start)


PREFIX = list(range(100, 148))  # 3 blocks


def pool(num_blocks: int) -> tuple[BlockAllocator, SharedBlocks]:
    allocator = BlockAllocator(num_blocks)
    return allocator, SharedBlocks(allocator)


def test_full_blocks_of_a_common_prefix_are_shared():
    allocator, blocks = pool(20)
    first, second = sequence_of([*PREFIX, 1, 2]), sequence_of([*PREFIX, 3])
    assert admit(blocks, first)
    assert admit(blocks, second)
    assert first.blocks[:3] == second.blocks[:3]
    assert not set(first.blocks[3:]) & set(second.blocks[3:])
    assert (blocks.num_used, allocator.num_free) == (5, 15)
    assert not blocks.skip_shared(second, ())
    assert not blocks.skip_shared(second, first.blocks[:2])
    assert second.num_computed == 32  # what the sweep fills before is there for it
    assert blocks.skip_shared(second, first.blocks[:3])
    assert (second.num_computed, second.num_cached) == (48, 48)


def test_the_last_token_of_a_prompt_is_always_computed():
    _, blocks = pool(20)
    first, second = sequence_of(PREFIX), sequence_of(PREFIX)
    admit(blocks, first)
    compute(blocks, first, 48)
    admit(blocks, second)
    assert blocks.skip_shared(second, ())
    assert second.num_cached == 32
    assert first.blocks[2] != second.blocks[2]  # the same, twice: only one of them is found later


def test_tokens_whose_logits_are_wanted_are_computed():
    scored = sequence_of(PREFIX, prompt_logprobs=0)
    assert reusable_blocks(scored) == 0
    scored.logits_from = 33
    assert reusable_blocks(scored) == 2
    assert reusable_blocks(sequence_of(PREFIX)) == 2
    assert reusable_blocks(sequence_of([*PREFIX, 1])) == 3


def test_a_key_stands_for_everything_before_it():
    _, blocks = pool(20)
    first, other = sequence_of([*PREFIX, 1]), sequence_of([9, *PREFIX[1:], 1])
    admit(blocks, first)
    admit(blocks, other)
    assert not set(first.blocks) & set(other.blocks)


def test_other_roots_and_no_root_share_nothing():
    _, blocks = pool(20)
    sequences = [sequence_of([*PREFIX, 1]) for _ in range(3)]
    sequences[1].prefix_root, sequences[2].prefix_root = b"another", None
    assert all(admit(blocks, sequence) for sequence in sequences)
    assert blocks.num_used == 12
    assert shared_lens(sequences) == (0, 0, 0)


def test_cached_blocks_are_given_up_before_anyone_waits_the_last_ones_first():
    allocator, blocks = pool(5)
    first = sequence_of([*PREFIX, 1])
    admit(blocks, first)
    compute(blocks, first, 49)
    blocks.release(first)
    assert (blocks.num_used, blocks.num_cached, allocator.num_free) == (0, 3, 2)
    other = sequence_of([7] * 40, max_tokens=24)  # 4 blocks
    assert admit(blocks, other)
    assert (blocks.num_used, blocks.num_cached, allocator.num_free) == (4, 1, 0)
    again = sequence_of([*PREFIX[:20], 1], max_tokens=1)
    assert not admit(blocks, again)  # its prefix is the last cached block
    blocks.release(other)
    assert admit(blocks, again)
    assert again.num_shared_blocks == 1


def test_what_was_used_last_is_given_up_last():
    allocator, blocks = pool(4)
    for token in (1, 2):
        sequence = sequence_of([token] * 17, max_tokens=1)
        admit(blocks, sequence)
        compute(blocks, sequence, 17)
        blocks.release(sequence)
    again = sequence_of([1] * 17, max_tokens=1)
    admit(blocks, again)
    blocks.release(again)
    assert admit(blocks, sequence_of([3] * 40, max_tokens=8))  # 3 blocks: 2 free, 1 cached
    found = [sequence_of([token] * 17, max_tokens=1) for token in (1, 2)]
    allocator.num_blocks += 2
    allocator.free([8, 9])
    assert [admit(blocks, one) and one.num_shared_blocks for one in found] == [1, 0]


def test_generated_tokens_are_found_by_a_longer_prompt():
    _, blocks = pool(20)
    first = sequence_of(PREFIX[:20], max_tokens=30)
    admit(blocks, first)
    compute(blocks, first, 20)
    for token in range(14):
        first.output.append(token)
        compute(blocks, first, first.num_tokens - 1)
    blocks.release(first)
    longer = sequence_of([*PREFIX[:20], *range(14), 5])
    admit(blocks, longer)
    assert blocks.skip_shared(longer, ())
    assert longer.num_cached == 32


def test_several_generated_tokens_at_once():
    _, blocks = pool(20)
    first = sequence_of(PREFIX[:20], max_tokens=40)
    admit(blocks, first)
    compute(blocks, first, 20)
    first.output += range(30)
    first.num_computed = 45  # verified with the sweep before
    compute(blocks, first, 49)
    longer = sequence_of([*PREFIX[:20], *range(30), 5])
    admit(blocks, longer)
    assert longer.num_shared_blocks == 3
    assert blocks.skip_shared(longer, ())


def test_one_takes_over_what_another_leaves_unfinished():
    _, blocks = pool(20)
    first, second, third = (sequence_of([*PREFIX, token]) for token in range(3))
    for sequence in (first, second, third):
        admit(blocks, sequence)
    compute(blocks, first, 20)
    blocks.release(first)
    assert blocks.skip_shared(second, ())
    assert second.num_computed == 16
    assert not blocks.skip_shared(third, ())
    compute(blocks, second, 49)
    assert blocks.skip_shared(third, ())
    assert third.num_cached == 48


def test_shared_lens_count_whole_blocks_of_earlier_prompts():
    prompts = [[*PREFIX, 1], [*PREFIX[:40], 2], PREFIX, [5], [*PREFIX, 1, 2]]
    assert shared_lens(map(sequence_of, prompts)) == (0, 32, 32, 0, 48)
