"""Adds drafts to the batches of a run, as deep as the performance model says that it pays."""

from __future__ import annotations

from collections.abc import Sequence as Items
from dataclasses import replace
from functools import partial
from statistics import fmean
from typing import Protocol, cast, get_args
from weakref import WeakKeyDictionary

from lm_offload.errors import ConfigError
from lm_offload.plan import Plan, Speculation
from lm_offload.planner.draft_rows import cost_of
from lm_offload.planner.plan_text import PlanChoice
from lm_offload.planner.request import Request
from lm_offload.planner.verify_cost import VerifyCost, free_cost
from lm_offload.quant.kv_blocks import BLOCK_TOKENS
from lm_offload.sequence import Batch, Chunk, Sequence
from lm_offload.speculation.depths import Offer, choose_depths
from lm_offload.speculation.prompt_lookup import PromptLookup


class Drafts(Protocol):
    """What the engine asks before a sweep and tells after it."""

    def extend(self, batch: Batch) -> Batch:
        """The batch with drafted tokens at the end of some chunks."""

    def observe(self, chunk: Chunk, tokens: Items[int]) -> None:
        """The model gave `tokens` for a chunk: the accepted ones of its draft, and one more."""


class NoDrafts:
    """One token of each sequence in each sweep."""

    def extend(self, batch: Batch) -> Batch:
        """The same."""
        return batch

    def observe(self, chunk: Chunk, tokens: Items[int]) -> None:
        """Nothing is learned."""


NO_DRAFTS = NoDrafts()


class Speculator:
    """Prompt lookup for sweeps of decode tokens alone.

    A sequence is looked up in every sweep in which drafts could pay, verified or not: that tells
    at no cost how often they would be right.
    """

    def __init__(self, plan: Plan, cost: VerifyCost) -> None:
        self._plan = plan
        self._cost = cost
        self._most: dict[tuple[int, int], int] = {}
        self._lookups: WeakKeyDictionary[Sequence, PromptLookup] = WeakKeyDictionary()

    def extend(self, batch: Batch) -> Batch:
        """The batch with drafts where all of it is decode."""
        if any(_draftable(chunk) < 0 for chunk in batch.chunks):
            return batch
        count = len(batch.chunks)
        context = 1 << _mean_context(batch).bit_length()  # few of them, whose costs are known
        if not (most := self._most_that_may_pay(count, context)):
            return batch
        lookups = [self._lookup(chunk.sequence) for chunk in batch.chunks]
        offers = [
            Offer(lookup.look_up(chunk.sequence), _draftable(chunk))
            for lookup, chunk in zip(lookups, batch.chunks, strict=True)
        ]
        depths = choose_depths(offers, count, most, partial(self._cost, count, context))
        chunks = zip(batch.chunks, lookups, depths, strict=True)
        return Batch(tuple(_extended(chunk, lookup.draft(n)) for chunk, lookup, n in chunks))

    def observe(self, chunk: Chunk, tokens: Items[int]) -> None:
        """Learn how often drafts of this sequence are right."""
        if lookup := self._lookups.get(chunk.sequence):
            lookup.observe(len(chunk.draft), tokens)
            if chunk.sequence.finish_reason:
                del self._lookups[chunk.sequence]

    def _most_that_may_pay(self, count: int, context: int) -> int:
        """The most rows, a power of two or all, that pay if every drafted token is right."""
        key = count, context
        if key not in self._most:
            most = min(self._plan.draft_rows, self._plan.sweep_tokens - count)
            options = [most, *(1 << power for power in reversed(range(most.bit_length())))]
            least_s = self._cost(count, context, 0) / count
            self._most[key] = next(
                (m for m in options if m > 0 and self._cost(*key, m) < least_s * (count + m)), 0
            )
        return self._most[key]

    def _lookup(self, sequence: Sequence) -> PromptLookup:
        if sequence not in self._lookups:
            self._lookups[sequence] = PromptLookup(sequence.max_tokens)
        return self._lookups[sequence]


def drafts_for(request: Request, plan: Plan) -> Drafts:
    """What drafts for an engine that runs `plan`."""
    if request.speculation == "off" or not plan.draft_rows:
        return NO_DRAFTS
    forced = request.speculation == "prompt-lookup"
    return Speculator(plan, free_cost if forced else cost_of(request, plan))


def check_speculation(speculation: str, saved: PlanChoice | None) -> Speculation:
    """A way to speculate, where the plan that was given allows it; raises ConfigError."""
    allowed = get_args(Speculation)
    if speculation not in allowed:
        raise ConfigError(f"speculation is {speculation!r}; allowed are {', '.join(allowed)}.")
    if speculation == "prompt-lookup" and saved is not None and not saved.draft_rows:
        raise ConfigError(
            "speculation is 'prompt-lookup' and the given plan has no draft_rows; put some into "
            "the plan, or leave speculation to auto."
        )
    return cast(Speculation, speculation)


def _draftable(chunk: Chunk) -> int:
    """Tokens that may be drafted after a decode chunk, one less than may come; -1 of others.

    A draft takes no new blocks: those that it has may end before.
    """
    sequence = chunk.sequence
    if chunk.start < max(len(sequence.prompt), sequence.num_tokens - 1):
        return -1
    room = len(sequence.blocks) * BLOCK_TOKENS
    return min(sequence.max_tokens - 1, room) - sequence.num_tokens


def _mean_context(batch: Batch) -> int:
    return round(fmean(chunk.stop for chunk in batch.chunks))


def _extended(chunk: Chunk, draft: tuple[int, ...]) -> Chunk:
    return replace(chunk, stop=chunk.stop + len(draft), draft=draft) if draft else chunk
