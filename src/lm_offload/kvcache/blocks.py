"""Which KV blocks are free; a block holds K and V of some positions of one sequence, all layers."""

from __future__ import annotations

from collections.abc import Callable


def _ignore(blocks: list[int]) -> None:
    """Nobody wants to know."""


class BlockAllocator:
    """Hands out block numbers; never more than there are."""

    def __init__(
        self, num_blocks: int, on_free: Callable[[list[int]], None] = _ignore, first: int = 0
    ) -> None:
        """Numbers from `first` on."""
        self.num_blocks = num_blocks
        self._on_free = on_free
        self._free = list(range(first + num_blocks - 1, first - 1, -1))

    @property
    def num_free(self) -> int:
        """Blocks that can still be handed out."""
        return len(self._free)

    def allocate(self, count: int) -> list[int]:
        """`count` block numbers; the caller has checked `num_free`."""
        if count > len(self._free):
            raise ValueError(f"{count} KV blocks wanted, {len(self._free)} free")
        return [self._free.pop() for _ in range(count)]

    def free(self, blocks: list[int]) -> None:
        """Give blocks back; neighbours are handed out together, so that they are read together."""
        self._free.extend(blocks)
        self._free.sort(reverse=True)
        self.check_integrity()
        self._on_free(blocks)

    def check_integrity(self) -> None:
        """Raise if a block was given back twice."""
        if len(self._free) > self.num_blocks:
            raise ValueError("a KV block was freed twice")
