"""Where a text had its last tokens before: chains of equal pairs, as LZ77 coders keep them.

::

    tokens    a b c a b d a b       the pair (a, b) ended at 1, at 4 and now at 7
    previous  - - - - 1 - - 4       where the pair that ends here ended before

Pairs are found by a hash, so a chain may hold others too; a match is always compared.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import NamedTuple

SHORTEST, LONGEST = 2, 16  # tokens of a match that are looked at
MOST_TRIED = 8  # places of one chain
BYTES_PER_TOKEN = 16  # at most: token, chain, and up to two hash slots of 4 bytes each


class Match(NamedTuple):
    """The text before `start` ends with the same `length` tokens as the whole text."""

    start: int
    length: int


class TokenIndex:
    """A text that grows, and where its end was seen before; constant work for each token."""

    def __init__(self, most_tokens: int) -> None:
        size = 1 << max(most_tokens - 1, 1).bit_length()
        self._tokens, self._previous = array("i"), array("i")
        self._heads = array("i", [-1]) * size  # where a pair with this hash ended last
        self._mask = size - 1

    def __len__(self) -> int:
        return len(self._tokens)

    def extend(self, tokens: Iterable[int]) -> None:
        """Append tokens to the text."""
        last = self._tokens[-1] if self._tokens else 0
        for token in tokens:
            slot = ((last * 0x9E3779B1 + token) * 0x85EBCA6B >> 16) & self._mask
            self._previous.append(self._heads[slot])
            self._heads[slot] = len(self._tokens)
            self._tokens.append(token)
            last = token

    def find(self) -> Match | None:
        """The longest match of the text's end, the latest of several, if it has SHORTEST tokens."""
        best = Match(0, SHORTEST - 1)
        place = self._previous[-1] if self._previous else -1
        for _ in range(MOST_TRIED):
            if place < 0 or best.length == LONGEST:
                break
            length = self._common_length(place)
            if length > best.length:
                best = Match(place + 1, length)
            place = self._previous[place]
        return best if best.length >= SHORTEST else None

    def following(self, match: Match, count: int) -> tuple[int, ...]:
        """`count` tokens that followed there; where the text ends they begin anew, as in a loop."""
        period = len(self._tokens) - match.start
        return tuple(self._tokens[match.start + index % period] for index in range(count))

    def _common_length(self, place: int) -> int:
        """Equal tokens that end at `place` and at the end of the text."""
        tokens, last = self._tokens, len(self._tokens) - 1
        length, most = 0, min(place + 1, LONGEST)
        while length < most and tokens[place - length] == tokens[last - length]:
            length += 1
        return length
