"""What a sweep computes, as far as its time depends on it: rows, contexts, logits."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

from lm_offload.planner.lazy import lazy


class Piece(NamedTuple):
    """Sequences that are alike: each computes `rows` rows, the last of which sees `context`."""

    sequences: int
    rows: int
    context: int


@dataclass(frozen=True)
class SweepShape:
    """The rows of one sweep.

    `kept_blocks` of the KV cache hold prefixes of sequences that have ended, which changes only
    what the cache can lend.
    """

    pieces: tuple[Piece, ...]
    logit_rows: int
    kept_blocks: int = field(default=0, compare=False)

    @lazy
    def rows(self) -> int:
        """Rows of all sequences."""
        return sum(piece.sequences * piece.rows for piece in self.pieces)

    @lazy
    def sequences(self) -> int:
        """Sequences that take part."""
        return sum(piece.sequences for piece in self.pieces)

    @lazy
    def is_decode(self) -> bool:
        """Whether every sequence computes a single row."""
        return all(piece.rows == 1 for piece in self.pieces)

    @lazy
    def prompts(self) -> int:
        """Sequences whose prompts begin here; those of one row count as decode."""
        first = (piece for piece in self.pieces if 1 < piece.rows == piece.context)
        return sum(piece.sequences for piece in first)

    def __hash__(self) -> int:
        return self._hash

    @lazy
    def _hash(self) -> int:
        """A search looks shapes up again and again."""
        return hash((self.pieces, self.logit_rows))

    def later(self, sweeps: int) -> SweepShape:
        """The shape so many sweeps later, every context longer by one token a sweep."""
        pieces = (Piece(count, rows, context + sweeps) for count, rows, context in self.pieces)
        return replace(self, pieces=tuple(pieces))


@dataclass(frozen=True)
class SweepGroup:
    """`count` sweeps after one another, alike but for contexts that grow by one each."""

    shape: SweepShape
    count: int
    prompt_rows: int  # of each sweep; a sweep with any counts as prefill
    first_tokens: int = 0  # sequences that get their first token here
    finished: int = 0  # sequences that end with the last sweep of the group
