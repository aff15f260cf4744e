"""Where drafts come from: what the speculator asks, and the text itself as the first answer."""

from __future__ import annotations

from collections.abc import Sequence as Items
from typing import Protocol
from weakref import WeakKeyDictionary

from lm_offload.quant.kv_format import BLOCK_TOKENS
from lm_offload.sequence import Chunk, Sequence
from lm_offload.speculation.depths import Offer
from lm_offload.speculation.prompt_lookup import PromptLookup

Wanted = tuple[Sequence, int]  # a sequence and the tokens to draft for it, one or more
Draft = tuple[int, ...]


class Proposer(Protocol):
    """Offers drafts for the sequences of a sweep, and learns how good they were."""

    def offers(self, chunks: Items[Chunk], context: int) -> list[Offer]:
        """What could be drafted after each of these decode chunks, of `context` tokens or so."""

    def draft(self, wanted: Items[Wanted]) -> list[Draft]:
        """As many tokens for each sequence."""

    def observe(self, chunk: Chunk, tokens: Items[int]) -> None:
        """The model gave `tokens` for a chunk: the accepted ones of its draft, and one more."""

    def gives_way(self, left: int, known: int) -> bool:
        """Whether its memory is worth more to the big model for the tokens that are `left`.

        The `known` ones would be computed again.
        """

    def close(self) -> None:
        """Give memory and files back."""


class Lookups:
    """Prompt lookup for each sequence; verified or not, it learns what it costs nothing to know."""

    def __init__(self) -> None:
        self._lookups: WeakKeyDictionary[Sequence, PromptLookup] = WeakKeyDictionary()

    def offers(self, chunks: Items[Chunk], context: int) -> list[Offer]:
        """What followed where the end of each text stood before."""
        return [Offer(self._look_up(chunk.sequence), draftable(chunk)) for chunk in chunks]

    def draft(self, wanted: Items[Wanted]) -> list[Draft]:
        """The tokens that followed there."""
        return [self._lookups[sequence].draft(count) for sequence, count in wanted]

    def observe(self, chunk: Chunk, tokens: Items[int]) -> None:
        """Learn how often drafts of this sequence are right."""
        if lookup := self._lookups.get(chunk.sequence):
            lookup.observe(len(chunk.draft), tokens)
            if chunk.sequence.finish_reason:
                del self._lookups[chunk.sequence]

    def gives_way(self, left: int, known: int) -> bool:
        """Never: it has none."""
        return False

    def close(self) -> None:
        """Nothing is held."""

    def _look_up(self, sequence: Sequence) -> float:
        if sequence not in self._lookups:
            self._lookups[sequence] = PromptLookup(sequence.max_tokens)
        return self._lookups[sequence].look_up(sequence)


def draftable(chunk: Chunk) -> int:
    """Tokens that may be drafted after a decode chunk, one less than may come; -1 of others.

    A draft takes no new blocks: those that it has may end before.
    """
    sequence = chunk.sequence
    if chunk.start < max(len(sequence.prompt), sequence.num_tokens - 1):
        return -1
    room = len(sequence.blocks) * BLOCK_TOKENS
    return min(sequence.max_tokens - 1, room) - sequence.num_tokens
