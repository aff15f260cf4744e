"""KV blocks in two memories, each attended to by its own processor; a sequence keeps to one.

::

    numbers   0 1 2 3 | 4 5 6 7 8 9        prefixes are shared within a memory
    memory    device  | host

The first has a sequence if there is room, else the second: what a memory is too small for even
when it is empty never waits for it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from collections.abc import Sequence as Items

from lm_offload.kvcache.cache import blocks_for
from lm_offload.kvcache.shared_blocks import SharedBlocks
from lm_offload.sequence import Sequence


class TwoMemories(SharedBlocks):
    """The blocks of both; the numbers of the second follow those of the first."""

    def __init__(self, first: SharedBlocks, second: SharedBlocks) -> None:
        self._both = first, second
        self._first_blocks = first.num_blocks

    @property
    def num_blocks(self) -> int:
        """In both."""
        return sum(each.num_blocks for each in self._both)

    @property
    def num_cached(self) -> int:
        """Blocks that no sequence uses and that still hold a prefix."""
        return sum(each.num_cached for each in self._both)

    @property
    def num_used(self) -> int:
        """Blocks that sequences use, shared ones counted once."""
        return sum(each.num_used for each in self._both)

    def home_of(self, sequence: Sequence) -> int:
        """The number of the memory that a sequence with blocks is in."""
        return int(sequence.blocks[0] >= self._first_blocks)

    def admit(self, sequence: Sequence, num_tokens: int) -> bool:
        """Give it blocks in the first memory that has them, and that it cannot outgrow."""
        most = blocks_for(sequence.max_tokens)
        large = (each for each in self._both if each.num_blocks >= most)
        return any(each.admit(sequence, num_tokens) for each in large)

    def extend(self, sequence: Sequence, num_tokens: int) -> bool:
        """Give it more where it is."""
        return self._of(sequence).extend(sequence, num_tokens)

    def trim(self, sequence: Sequence) -> bool:
        """Free the blocks that it has for tokens to come; whether there were any."""
        return self._of(sequence).trim(sequence)

    def withdraw(self, blocks: Iterable[int]) -> None:
        """Use these blocks no more once those who have them are released."""
        for each, numbers in zip(self._both, self._divided(blocks), strict=True):
            each.withdraw(numbers)

    def filled_prompt(self, sequence: Sequence) -> list[tuple[bytes, int]]:
        """Key and block of the leading full blocks of a prompt, from where more are still there."""
        return max((each.filled_prompt(sequence) for each in self._both), key=len)

    def skip_shared(self, sequence: Sequence, filling: Collection[int]) -> bool:
        """Go past what others computed; False while what is next is still being computed."""
        return self._of(sequence).skip_shared(sequence, filling)

    def note_computed(self, sequence: Sequence, start: int) -> None:
        """The tokens from `start` to `num_computed` are in the cache: others may read them."""
        self._of(sequence).note_computed(sequence, start)

    def release(self, sequence: Sequence) -> None:
        """Take the blocks from `sequence`."""
        if sequence.blocks:
            self._of(sequence).release(sequence)

    def release_all_but(self, sequence: Sequence, start: int, stop: int) -> list[int]:
        """The same, but these of its blocks stay in use until `release_blocks` has them."""
        return self._of(sequence).release_all_but(sequence, start, stop)

    def release_blocks(self, blocks: Items[int]) -> None:
        """One user less of each of these blocks."""
        for each, numbers in zip(self._both, self._divided(blocks), strict=True):
            each.release_blocks(numbers)

    def first_own(self, sequence: Sequence) -> int:
        """How many leading blocks others use, too."""
        return self._of(sequence).first_own(sequence)

    def has_shared(self, sequence: Sequence) -> bool:
        """Whether all blocks that others were to fill for it are filled."""
        return self._of(sequence).has_shared(sequence)

    def _of(self, sequence: Sequence) -> SharedBlocks:
        return self._both[self.home_of(sequence)]

    def _divided(self, blocks: Iterable[int]) -> tuple[list[int], list[int]]:
        numbers = [*blocks]
        first = [number for number in numbers if number < self._first_blocks]
        return first, [number for number in numbers if number >= self._first_blocks]
