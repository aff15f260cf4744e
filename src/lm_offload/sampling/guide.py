"""Which tokens may come next in a text that a grammar describes: one sequence's place in it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lm_offload.sampling.token_rules import FORBIDDEN

if TYPE_CHECKING:
    from llguidance import LLMatcher
    from torch import Tensor

NO_TOKEN = "NoExtensionBias"  # what llguidance says where no token may come


class Guide:
    """Follows the output of a sequence, so whatever becomes of its KV cache does not concern it.

    An output that is not the one of before, as those of drafts are, is followed from where it
    differs.
    """

    def __init__(self, matcher: LLMatcher, end_tokens: Collection[int]) -> None:
        """`matcher` is at the beginning and stays there."""
        self.error: str | None = None  # why the text cannot go on as the grammar wants it
        self._beginning = matcher
        self._own: LLMatcher | None = None  # not before it is used: thousands of requests wait
        self._end_tokens = end_tokens  # the matcher allows them where the text may end
        self._taken: list[int] = []  # tokens that the matcher knows

    def copy(self) -> Guide:
        """Another one in the same place."""
        made = Guide(self._beginning, self._end_tokens)
        made._own = self._matcher.deep_copy()
        made._taken, made.error = [*self._taken], self.error
        return made

    @property
    def _matcher(self) -> LLMatcher:
        if self._own is None:
            self._own = self._beginning.deep_copy()
        return self._own

    def apply(self, logits: Tensor, output: Sequence[int]) -> None:
        """Forbid in logits [V] what may not follow `output`; one token at least stays possible.

        Where the grammar has none, or takes too long, `error` is set and the logits stay.
        """
        import torch

        self._follow(output)
        if self.error is not None:
            return
        mask = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        if self._has_failed():
            return
        allowed = np.unpackbits(mask, count=len(logits), bitorder="little")
        logits.masked_fill_(torch.from_numpy(allowed == 0), FORBIDDEN)

    def is_complete(self, output: Sequence[int]) -> bool:
        """Whether nothing but an end token may follow."""
        self._follow(output)
        return self.error is None and bool(self._matcher.is_stopped())

    def fails(self, output: Sequence[int]) -> bool:
        """Whether `output` goes beyond what can be followed; drafts are behind it, or ahead."""
        return self.error is not None and len(output) > len(self._taken)

    def _follow(self, output: Sequence[int]) -> None:
        if self.error is not None:
            return
        known = len(self._taken)
        if [*output[:known]] != self._taken:
            known = _num_common(self._taken, output)
            self._matcher.rollback(len(self._taken) - known)
            del self._taken[known:]
        for token in output[known:]:
            if token in self._end_tokens or self.error is not None:
                return
            self._matcher.consume_token(token)
            self._taken.append(token)
            self._has_failed()

    def _has_failed(self) -> bool:
        if self._matcher.is_error():
            reason = self._matcher.get_error().partition("\n")[0]
            reason = "no token of this model fits" if reason == NO_TOKEN else reason
            self.error = (
                f"After {len(self._taken)} tokens the text cannot go on as structured_outputs "
                f"want it ({reason}); ask for a simpler one."
            )
        return self.error is not None


def _num_common(one: Sequence[int], other: Sequence[int]) -> int:
    """Tokens with which both begin."""
    both = [*zip(one, other, strict=False)]
    return next((place for place, (a, b) in enumerate(both) if a != b), len(both))
