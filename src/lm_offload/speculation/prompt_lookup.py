"""Drafts from the text itself: what followed where its last tokens stood before.

Prompt lookup decoding (Saxena, 2023), also over the output, with the longest match of up to 16
tokens. A draft names one token for each place, so that exact rejection sampling
(Leviathan et al., 2023) means: draw from the model as without a draft and see whether it is the
same token. The text does not depend on the draft.
"""

from __future__ import annotations

from collections.abc import Sequence as Items

from lm_offload.sequence import Sequence
from lm_offload.speculation.acceptance import Acceptance
from lm_offload.speculation.token_index import Match, TokenIndex

MISSES = 4  # in a row, after which the text is looked up less often
MOST_RESTED = 8  # sweeps between two look-ups


class PromptLookup:
    """Drafts for one sequence, and how often they were right.

    A look-up takes about 0.1 ms beside readers, which want the interpreter, too: where drafts are
    wrong again and again, sweeps without one lie between.
    """

    def __init__(self, most_tokens: int) -> None:
        self._index = TokenIndex(most_tokens)
        self._acceptance = Acceptance()
        self._match: Match | None = None
        self._misses = 0
        self._rested = 0

    @property
    def _rests(self) -> bool:
        return self._rested < min(self._misses - MISSES, MOST_RESTED)

    def look_up(self, sequence: Sequence) -> float:
        """Take in its new tokens; the chance of each that would be drafted, 0 for nothing."""
        if self._rests:
            self._rested += 1
            return 0.0
        self._rested = 0
        self._index.extend(sequence.tokens(len(self._index), sequence.num_tokens))
        self._match = self._index.find()
        return self._acceptance.chance(self._match.length) if self._match else 0.0

    def draft(self, count: int) -> tuple[int, ...]:
        """The `count` tokens that may come next; none without a match."""
        return self._index.following(self._match, count) if self._match else ()

    def observe(self, verified: int, tokens: Items[int]) -> None:
        """Compare with the `tokens` of the sweep, where `verified` drafted ones were in it.

        Without any the next token alone says whether a draft would have been right.
        """
        if self._match is None:
            return
        draft = self.draft(max(min(verified, len(tokens)), 1))
        right = 0
        while right < min(len(draft), len(tokens)) and draft[right] == tokens[right]:
            right += 1
        self._acceptance.observe(self._match.length, right, min(right + 1, len(draft)))
        self._misses = 0 if right else self._misses + 1
        self._match = None
