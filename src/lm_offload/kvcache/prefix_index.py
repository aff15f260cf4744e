"""Which KV block holds which prefix."""

from __future__ import annotations

from collections.abc import Iterable


class PrefixIndex:
    """Blocks by key (kvcache/block_keys.py): announced before they are computed, then filled."""

    def __init__(self) -> None:
        self._blocks: dict[bytes, int] = {}
        self._keys: dict[int, bytes] = {}
        self._filled: set[int] = set()

    def leading(self, keys: Iterable[bytes]) -> list[int]:
        """The blocks of the first keys, up to one that no block has."""
        blocks = []
        for key in keys:
            if (block := self._blocks.get(key)) is None:
                break
            blocks.append(block)
        return blocks

    def announce(self, key: bytes, block: int) -> bool:
        """Say what `block` is going to hold; False where another one does already."""
        if key in self._blocks:
            return False
        self._blocks[key], self._keys[block] = block, key
        return True

    def fill(self, block: int) -> None:
        """Say that `block` now holds it, if it was announced at all."""
        if block in self._keys:
            self._filled.add(block)

    def is_filled(self, block: int) -> bool:
        """Whether another sequence may read `block`."""
        return block in self._filled

    def forget(self, block: int) -> None:
        """`block` will hold something else."""
        key = self._keys.pop(block, None)
        if key is not None:
            del self._blocks[key]
        self._filled.discard(block)
