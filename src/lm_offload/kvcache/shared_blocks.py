"""The KV blocks of sequences; full blocks of equal prefixes are held, and computed, once.

Only full blocks are shared, and a full block is never written again, so there is nothing to copy:
the tokens behind the last full block that a prompt shares, 16 at most, are computed into a block of
its own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from collections.abc import Sequence as Items
from itertools import takewhile

from lm_offload.kvcache.block_keys import next_key, prompt_keys, reusable_blocks, text_keys
from lm_offload.kvcache.blocks import BlockAllocator
from lm_offload.kvcache.cache import blocks_for
from lm_offload.kvcache.counted_blocks import CountedBlocks
from lm_offload.kvcache.prefix_index import PrefixIndex
from lm_offload.quant.kv_format import BLOCK_TOKENS
from lm_offload.sequence import Chunk, Sequence

Restore = Callable[[Items[bytes], Items[int]], int]  # fills blocks by key; how many of the first


def restore_none(keys: Items[bytes], blocks: Items[int]) -> int:
    """Nothing is kept anywhere else."""
    return 0


class SharedBlocks:
    """Gives blocks to sequences; one without `prefix_root` shares nothing."""

    def __init__(self, allocator: BlockAllocator, restore: Restore = restore_none) -> None:
        self._restore = restore
        self._index = PrefixIndex()
        self._blocks = CountedBlocks(allocator, self._index)
        self._writers: dict[int, Sequence] = {}  # of announced blocks that are not filled

    @property
    def num_blocks(self) -> int:
        """All there are."""
        return self._blocks.num_blocks

    @property
    def num_cached(self) -> int:
        """Blocks that no sequence uses and that still hold a prefix."""
        return self._blocks.num_cached

    @property
    def num_used(self) -> int:
        """Blocks that sequences use, shared ones counted once."""
        return self._blocks.num_used

    def home_of(self, sequence: Sequence) -> int:
        """In which of several memories it has its blocks; those in one want the same room."""
        return 0

    def admit(self, sequence: Sequence, num_tokens: int) -> bool:
        """Give `sequence` the blocks of its first `num_tokens`, if that many can be had."""
        sequence.block_keys = sequence.block_keys or list(text_keys(sequence))
        shared = self._usable(sequence)
        needed = blocks_for(num_tokens) - len(shared)
        if needed > self._blocks.available_beside(shared):
            return False
        self._blocks.share(shared)
        sequence.num_shared_blocks = len(shared)
        sequence.blocks = shared + self._blocks.take(needed)
        self._restore_own(sequence)
        self._announce(sequence)
        return True

    def _usable(self, sequence: Sequence) -> list[int]:
        """The leading blocks that others have computed or compute, as far as they are of use."""
        return self._index.leading(sequence.block_keys[: reusable_blocks(sequence)])

    def extend(self, sequence: Sequence, num_tokens: int) -> bool:
        """Give it blocks for the tokens it has, if they can be had.

        It gets those of `num_tokens` as far as they are free: neighbours are read together.
        """
        held = len(sequence.blocks)
        lacking = blocks_for(sequence.num_tokens) - held
        if lacking > self._blocks.available_beside(()):
            return False
        hoped = min(blocks_for(num_tokens) - held, self._blocks.num_free)
        sequence.blocks += self._blocks.take(max(lacking, hoped))
        return True

    def trim(self, sequence: Sequence) -> bool:
        """Free the blocks that it has for tokens to come; whether there were any."""
        spare = sequence.blocks[blocks_for(sequence.num_tokens) :]
        del sequence.blocks[len(sequence.blocks) - len(spare) :]
        if spare:
            self._blocks.give_back(spare)
        return bool(spare)

    def withdraw(self, blocks: Iterable[int]) -> None:
        """Use these blocks no more once those who have them are released."""
        self._blocks.withdraw(blocks)

    def _restore_own(self, sequence: Sequence) -> None:
        """Fill what follows the shared blocks from where it was kept."""
        start, stop = sequence.num_shared_blocks, reusable_blocks(sequence)
        keys, blocks = sequence.block_keys[start:stop], sequence.blocks[start:stop]
        for index in range(self._restore(keys, blocks)):
            if not self._index.announce(keys[index], blocks[index]):
                return
            self._index.fill(blocks[index])
            sequence.num_shared_blocks += 1

    def filled_prompt(self, sequence: Sequence) -> list[tuple[bytes, int]]:
        """Key and block of the leading full blocks of a prompt that are still there."""
        keys = list(prompt_keys(sequence))
        pairs = zip(keys, self._index.leading(keys), strict=False)
        return [pair for pair in pairs if self._index.is_filled(pair[1])]

    def _announce(self, sequence: Sequence) -> None:
        start = sequence.num_shared_blocks
        own = zip(sequence.block_keys[start:], sequence.blocks[start:], strict=False)
        for key, block in own:
            if self._index.announce(key, block):
                self._writers[block] = sequence

    def skip_shared(self, sequence: Sequence, filling: Collection[int]) -> bool:
        """Go past what others computed; False while another sequence still computes what is next.

        `filling` are the blocks that the sweep fills before it comes to `sequence`.
        """
        while (index := sequence.num_computed // BLOCK_TOKENS) < sequence.num_shared_blocks:
            block = sequence.blocks[index]
            if not self._index.is_filled(block) and block not in filling:
                return self._is_writer(sequence, index)
            sequence.skip_to((index + 1) * BLOCK_TOKENS)
        return True

    def pieces(self, chunk: Chunk) -> tuple[Chunk, ...]:
        """What a sweep works on of `chunk`, cut where a state is to be kept."""
        return (chunk,)

    def is_stranded(self, sequence: Sequence) -> bool:
        """Whether it waits for what nobody computes any more, and cannot go on by itself."""
        return False

    def _is_writer(self, sequence: Sequence, index: int) -> bool:
        """Whether block `index` is for it to compute, since nobody else does any more."""
        for block in sequence.blocks[index : sequence.num_shared_blocks]:
            if not self._index.is_filled(block):
                self._writers.setdefault(block, sequence)
        return self._writers[sequence.blocks[index]] is sequence

    def note_computed(self, sequence: Sequence, start: int) -> None:
        """The tokens from `start` to `num_computed` are in the cache: others may read them."""
        full = sequence.num_computed // BLOCK_TOKENS
        if sequence.prefix_root is None or full == start // BLOCK_TOKENS:
            return
        for block in sequence.blocks[start // BLOCK_TOKENS : full]:
            self._index.fill(block)
            self._writers.pop(block, None)
        while len(sequence.block_keys) < full:
            self._add_output(sequence, sequence.prefix_root)

    def _add_output(self, sequence: Sequence, root: bytes) -> None:
        """The next full block, which holds generated tokens: a longer prompt may repeat them."""
        keys = sequence.block_keys
        block, start = sequence.blocks[len(keys)], len(keys) * BLOCK_TOKENS
        tokens = sequence.tokens(start, start + BLOCK_TOKENS)
        keys.append(next_key(keys[-1] if keys else root, tokens))
        self._index.announce(keys[-1], block)
        self._index.fill(block)

    def release(self, sequence: Sequence) -> None:
        """Take the blocks from `sequence`; filled ones stay cached, the last to be given up first.

        What it has announced and not filled falls to the next that needs it.
        """
        for block in sequence.blocks:
            if self._writers.get(block) is sequence:
                del self._writers[block]
        self.release_blocks(sequence.blocks)
        sequence.blocks, sequence.block_keys = [], []

    def release_all_but(self, sequence: Sequence, start: int, stop: int) -> list[int]:
        """The same, but these of its blocks stay in use until `release_blocks` has them."""
        kept = sequence.blocks[start:stop]
        sequence.blocks = sequence.blocks[:start] + sequence.blocks[stop:]
        self.release(sequence)
        return kept

    def release_blocks(self, blocks: Items[int]) -> None:
        """One user less of each of these blocks."""
        self._blocks.release(blocks)

    def first_own(self, sequence: Sequence) -> int:
        """How many leading blocks others use, too: who shares one shares all before it."""
        return sum(1 for _ in takewhile(self._blocks.is_shared, sequence.blocks))

    def has_shared(self, sequence: Sequence) -> bool:
        """Whether all blocks that others were to fill for it are filled."""
        return all(map(self._index.is_filled, sequence.blocks[: sequence.num_shared_blocks]))
