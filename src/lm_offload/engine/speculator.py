"""Adds drafts to the batches of a run, as deep as the performance model says that it pays."""

from __future__ import annotations

from collections.abc import Sequence as Items
from functools import partial
from typing import Protocol, cast, get_args

from lm_offload.engine.proposers import Draft, Proposer, draftable
from lm_offload.errors import ConfigError
from lm_offload.plan import Plan, Speculation
from lm_offload.planner.choose.draft_rows import FORCED
from lm_offload.planner.choose.verify_cost import VerifyCost
from lm_offload.planner.decided.plan_choice import PlanChoice
from lm_offload.sequence import Batch, Chunk
from lm_offload.speculation.depths import Offer, choose_depths


class Drafts(Protocol):
    """What the engine asks before a sweep and tells after it."""

    def extend(self, batch: Batch) -> Batch:
        """The batch with drafted tokens at the end of some chunks."""

    def observe(self, chunk: Chunk, tokens: Items[int]) -> None:
        """The model gave `tokens` for a chunk: the accepted ones of its draft, and one more."""

    def gives_way(self, left: int, known: int) -> bool:
        """Whether memory held for drafts is worth more to the model: see `Proposer.gives_way`."""

    def close(self) -> None:
        """Give memory and files back."""


class NoDrafts:
    """One token of each sequence in each sweep."""

    def extend(self, batch: Batch) -> Batch:
        """The same."""
        return batch

    def observe(self, chunk: Chunk, tokens: Items[int]) -> None:
        """Nothing is learned."""

    def gives_way(self, left: int, known: int) -> bool:
        """Nothing is held."""
        return False

    def close(self) -> None:
        """Nothing is held."""


NO_DRAFTS = NoDrafts()


class Speculator:
    """Drafts for sweeps of decode tokens alone, each from the proposer with the best chance."""

    def __init__(self, plan: Plan, cost: VerifyCost, proposers: Items[Proposer]) -> None:
        self._plan = plan
        self._cost = cost
        self._proposers = proposers  # of equals the first one wins
        self._most: dict[tuple[int, int], int] = {}

    def extend(self, batch: Batch) -> Batch:
        """The batch with drafts where all of it is decode."""
        chunks, count = batch.chunks, len(batch.chunks)
        if any(draftable(chunk) < 0 for chunk in chunks):
            return batch
        context = 1 << _mean_context(batch).bit_length()  # few of them, whose costs are known
        if not (most := self._most_that_may_pay(count, context)):
            return batch
        offers = self._best_offers(chunks, context)
        if not any(offer.chance for offer, _ in offers):
            return batch
        cost = partial(self._cost, count, context)
        depths = choose_depths([offer for offer, _ in offers], count, most, cost)
        drafts = self._drafts(chunks, [proposer for _, proposer in offers], depths)
        return Batch(tuple(map(_extended, chunks, drafts)))

    def observe(self, chunk: Chunk, tokens: Items[int]) -> None:
        """Learn how often drafts of this sequence are right."""
        for proposer in self._proposers:
            proposer.observe(chunk, tokens)

    def gives_way(self, left: int, known: int) -> bool:
        """Whether a proposer should leave its memory to the model."""
        return any(proposer.gives_way(left, known) for proposer in self._proposers)

    def close(self) -> None:
        """Give back what proposers hold."""
        for proposer in self._proposers:
            proposer.close()

    def _best_offers(self, chunks: Items[Chunk], context: int) -> list[tuple[Offer, Proposer]]:
        """For each chunk the offer with the best chance, and who made it."""
        every = [proposer.offers(chunks, context) for proposer in self._proposers]
        pairs = (
            [*zip(offers, self._proposers, strict=True)] for offers in zip(*every, strict=True)
        )
        return [max(pair, key=_chance) for pair in pairs]

    def _drafts(
        self, chunks: Items[Chunk], chosen: Items[Proposer], depths: Items[int]
    ) -> list[Draft]:
        """As many tokens as `depths` says; each proposer drafts for all of its chunks together."""
        drafts: list[Draft] = [()] * len(chunks)
        for proposer in self._proposers:
            mine = [i for i, depth in enumerate(depths) if depth and chosen[i] is proposer]
            if mine:
                found = proposer.draft([(chunks[i].sequence, depths[i]) for i in mine])
                for index, draft in zip(mine, found, strict=True):
                    drafts[index] = draft
        return drafts

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


def check_speculation(speculation: str, saved: PlanChoice | None) -> Speculation:
    """A way to speculate, where the plan that was given allows it; raises ConfigError."""
    allowed = get_args(Speculation)
    if speculation not in allowed:
        raise ConfigError(f"speculation is {speculation!r}; allowed are {', '.join(allowed)}.")
    if speculation in FORCED and saved is not None and not saved.draft_rows:
        raise ConfigError(
            f"speculation is {speculation!r} and the given plan has no draft_rows; put some into "
            "the plan, or leave speculation to auto."
        )
    return cast(Speculation, speculation)


def _mean_context(batch: Batch) -> int:
    return sum(chunk.stop for chunk in batch.chunks) // len(batch.chunks)


def _extended(chunk: Chunk, draft: tuple[int, ...]) -> Chunk:
    return chunk._replace(stop=chunk.stop + len(draft), draft=draft) if draft else chunk


def _chance(offered: tuple[Offer, Proposer]) -> float:
    return offered[0].chance if offered[0].limit > 0 else 0.0
