"""Drafts of a small model, where its seconds are predicted to be worth what they bring."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Items
from math import sqrt
from weakref import WeakKeyDictionary

from lm_offload.engine.draft_model import DraftModel
from lm_offload.engine.proposers import Draft, Wanted, draftable
from lm_offload.planner.choose.verify_cost import VerifyCost
from lm_offload.sequence import Chunk, Sequence
from lm_offload.speculation.acceptance import ModelAcceptance
from lm_offload.speculation.depths import Offer

Worth = Callable[[float, int, int], bool]  # by chance, tokens that are left, tokens that are known

NOTHING = Offer(0.0, 0)
LEAST_JUDGED = 8  # tokens that must have been right or wrong before a model gives way
LATEST_FRAC = 0.1  # of the last step in the running measure


class ModelDrafts:
    """Offers what a draft model may say, at the cost of its steps.

    `cost` are the seconds of its sweeps by its own plan; what steps really take, over what they
    should, is measured as it runs. None: they cost nothing, so that drafts are always wanted.
    `worth` says whether a model that is right with a chance should give way; None: never.
    """

    def __init__(
        self, model: DraftModel, cost: VerifyCost | None, worth: Worth | None = None
    ) -> None:
        self._model = model
        self._cost = cost
        self._worth = worth
        self._judged = self._judged_before = 0  # tokens, now and when it last had to give way
        self._pace = 1.0  # seconds of a step over those predicted
        self._context = 1
        self._all = ModelAcceptance()
        self._acceptance: WeakKeyDictionary[Sequence, ModelAcceptance] = WeakKeyDictionary()
        self._drafts: WeakKeyDictionary[Sequence, Draft] = WeakKeyDictionary()

    def offers(self, chunks: Items[Chunk], context: int) -> list[Offer]:
        """As many tokens as the draft model was trusted with so far."""
        self._context = context
        return [self._offer(chunk, len(chunks)) for chunk in chunks]

    def draft(self, wanted: Items[Wanted]) -> list[Draft]:
        """The tokens that the draft model says, for all sequences together."""
        drafts = self._model.draft(wanted)
        pairs = zip(wanted, drafts, strict=True)
        self._drafts.update((sequence, draft) for (sequence, _), draft in pairs)
        self._measure()
        return drafts

    def observe(self, chunk: Chunk, tokens: Items[int]) -> None:
        """Learn how often its drafts are right, of this sequence and of all."""
        sequence, draft = chunk.sequence, self._drafts.pop(chunk.sequence, ())
        right = 0
        while right < min(len(draft), len(tokens)) and draft[right] == tokens[right]:
            right += 1
        tried = min(right + 1, len(draft))
        if sequence in self._acceptance:
            self._acceptance[sequence].observe(right, tried)
        if tried:
            self._all.observe(right, tried)
            self._judged += tried
        if sequence.finish_reason:
            self._model.forget(sequence)

    def gives_way(self, left: int, known: int) -> bool:
        """Asked anew whenever more of its tokens were judged, with the benefit of the doubt."""
        if self._worth is None or self._judged < max(LEAST_JUDGED, self._judged_before + 1):
            return False
        self._judged_before = self._judged
        doubt = 0.5 / sqrt(self._judged)  # a standard deviation of what was seen
        return self._worth(min(self._all.chance + doubt, 1.0), left, known)

    def close(self) -> None:
        """Give memory and files of the draft model back."""
        self._model.close()

    def _offer(self, chunk: Chunk, count: int) -> Offer:
        sequence = chunk.sequence
        if (shadow := self._model.follow(sequence)) is None:
            return NOTHING
        if sequence not in self._acceptance:
            self._acceptance[sequence] = ModelAcceptance(self._all.chance)
        known, limit = self._acceptance[sequence], draftable(chunk)
        room = shadow.max_tokens - shadow.num_tokens
        step_s = self._step_s(count, shadow.num_uncomputed, limit)
        return Offer(known.chance, min(limit, room, known.most), step_s)

    def _step_s(self, count: int, uncomputed: int, steps: int) -> float:
        """Seconds of a step for `count` sequences, with a part of what comes before the first."""
        if self._cost is None:
            return 0.0
        step_s = self._cost(count, self._context, 0)
        late = 1 << (uncomputed - 1).bit_length() if uncomputed > 1 else 0  # few, known costs
        before_s = self._cost(count, self._context, late) - step_s
        return self._pace * (step_s + before_s / max(steps, 1))

    def _measure(self) -> None:
        if self._cost is None or self._model.step_s is None:
            return
        count, seconds = self._model.step_s
        now = seconds / self._cost(count, self._context, 0)
        self._pace += LATEST_FRAC * (now - self._pace)
