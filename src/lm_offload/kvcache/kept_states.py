"""Which slot keeps the recurrent states behind which prefix.

A prefix is named by the key of its last block (kvcache/block_keys.py)::

    expected    sequences wait for it or will begin with it: it is not given up before
    in making   copied in the sweep that is being made, so that later waves of it may begin there
    kept        until another one needs the slot, the least recently used first

There are never more expected ones than slots, so each of them finds one.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple


class _Making(NamedTuple):
    slot: int
    wave: int  # of the rows behind which it is copied


class KeptStates:
    """Slots by prefix; see above."""

    def __init__(self, num_slots: int) -> None:
        self.num_slots = num_slots
        self._free = list(range(num_slots - 1, -1, -1))
        self._slots: dict[bytes, int] = {}  # of kept ones, the least recently used first
        self._making: dict[bytes, _Making] = {}
        self._expected: Counter[bytes] = Counter()  # sequences by what they begin with

    @property
    def num_kept(self) -> int:
        """Prefixes with a state."""
        return len(self._slots)

    def has(self, key: bytes) -> bool:
        """Whether a sequence may begin behind this prefix, in this sweep at the earliest."""
        return key in self._slots or key in self._making

    def may_expect(self, key: bytes) -> bool:
        """Whether one more sequence may wait for this prefix."""
        return key in self._expected or len(self._expected) < self.num_slots

    def expect(self, key: bytes) -> None:
        """A sequence will begin behind this prefix."""
        self._expected[key] += 1
        if key in self._slots:
            self._slots[key] = self._slots.pop(key)  # the most recently used one

    def leave(self, key: bytes) -> None:
        """That sequence has begun, or will not."""
        self._expected[key] -= 1
        if not self._expected[key]:
            del self._expected[key]

    def is_expected(self, key: bytes) -> bool:
        """Whether a sequence will begin there."""
        return key in self._expected

    def slot_of(self, key: bytes) -> tuple[int, int]:
        """The slot of a prefix that there is, and the first wave in which it may be read."""
        if (making := self._making.get(key)) is not None:
            return making.slot, making.wave + 1
        return self._slots[key], 0

    def make(self, key: bytes, wave: int) -> int | None:
        """A slot for a prefix that rows of a wave come to, if it has none and one can be had."""
        if self.has(key) or not (key in self._expected or self._has_spare):
            return None
        if not self._free:
            oldest = next(it for it in self._slots if it not in self._expected)
            self._free.append(self._slots.pop(oldest))
        slot = self._free.pop()
        self._making[key] = _Making(slot, wave)
        return slot

    def made(self, key: bytes) -> None:
        """The sweep is over: if it made this state, it is kept."""
        if (making := self._making.pop(key, None)) is not None:
            self._slots[key] = making.slot

    def abandon(self, key: bytes) -> None:
        """The rows of this state have failed."""
        if (making := self._making.pop(key, None)) is not None:
            self._free.append(making.slot)

    def forget(self, key: bytes) -> None:
        """Give a state up unless a sequence will begin with it."""
        if key in self._slots and key not in self._expected:
            self._free.append(self._slots.pop(key))

    @property
    def _has_spare(self) -> bool:
        """Whether a slot is left beside those of the expected ones."""
        others = sum(key not in self._expected for key in self._making)
        return len(self._expected) + others < self.num_slots
