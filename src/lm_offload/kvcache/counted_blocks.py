"""KV blocks and how many sequences use each.

A block is free, used by one or more sequences, or cached: used by none, but kept while nobody
needs the room, since it holds a prefix that may come again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from lm_offload.kvcache.blocks import BlockAllocator
from lm_offload.kvcache.prefix_index import PrefixIndex


class CountedBlocks:
    """Block numbers with their users; what `index` says is filled stays when it has none left."""

    def __init__(self, allocator: BlockAllocator, index: PrefixIndex) -> None:
        self._allocator = allocator
        self._index = index
        self._users: Counter[int] = Counter()
        self._cached: dict[int, None] = {}  # least recently used first
        self._withdrawn: set[int] = set()  # never used again

    @property
    def num_blocks(self) -> int:
        """All there are."""
        return self._allocator.num_blocks

    @property
    def num_free(self) -> int:
        """Blocks that hold nothing."""
        return self._allocator.num_free

    @property
    def num_cached(self) -> int:
        """Blocks that no sequence uses and that still hold a prefix."""
        return len(self._cached)

    @property
    def num_used(self) -> int:
        """Blocks that sequences use, shared ones counted once."""
        return len(self._users)

    def available_beside(self, shared: Collection[int]) -> int:
        """Blocks that can be taken while none of `shared` is given up."""
        evictable = len(self._cached) - sum(block in self._cached for block in shared)
        return self._allocator.num_free + evictable

    def share(self, blocks: Collection[int]) -> None:
        """One user more of blocks that hold a prefix."""
        for block in blocks:
            self._cached.pop(block, None)
        self._users.update(blocks)

    def take(self, count: int) -> list[int]:
        """Blocks for one user, after as many cached ones as it takes were given up."""
        lacking = max(count - self._allocator.num_free, 0)
        evicted = [block for block, _ in zip(self._cached, range(lacking), strict=False)]
        for block in evicted:
            del self._cached[block]
            self._index.forget(block)
        self._allocator.free(evicted)
        taken = self._allocator.allocate(count)
        self._users.update(taken)
        return taken

    def give_back(self, blocks: list[int]) -> None:
        """Free blocks in which their one user has put nothing."""
        for block in blocks:
            del self._users[block]
        self._allocator.free(blocks)

    def withdraw(self, blocks: Iterable[int]) -> None:
        """Hand these blocks out no more once those who have them are released."""
        self._withdrawn.update(blocks)

    def is_shared(self, block: int) -> bool:
        """Whether more than one sequence uses it."""
        return self._users[block] > 1

    def release(self, blocks: Sequence[int]) -> None:
        """One user less of each; what none is left of is kept or freed, the last kept go first."""
        for block in blocks:
            self._users[block] -= 1
        self._retire([block for block in blocks if not self._users[block]])

    def _retire(self, blocks: list[int]) -> None:
        for block in reversed(blocks):
            del self._users[block]
            if self._index.is_filled(block) and block not in self._withdrawn:
                self._cached[block] = None
            else:
                self._index.forget(block)
        cached, withdrawn = self._cached, self._withdrawn
        free = [block for block in blocks if block not in cached and block not in withdrawn]
        self._allocator.free(free)
