"""Room for drafts in a plan: rows with logits of their own, where verifying them pays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from lm_offload.plan import Plan
from lm_offload.planner.choose.common import Common
from lm_offload.planner.choose.predictor import Predictor
from lm_offload.planner.choose.verify_cost import ModelledCost
from lm_offload.planner.costs.memory import Sizes
from lm_offload.planner.decided.fixed_plan import candidate_of_plan
from lm_offload.planner.places.candidate import Candidate
from lm_offload.planner.places.host_placement import host_ring_depths, place
from lm_offload.planner.request import Request
from lm_offload.planner.sweeps.mean_sweeps import mean_decode
from lm_offload.speculation.depths import Offer, choose_depths

FORCED = ("prompt-lookup", "draft-model")  # drafts whatever they cost
MOST_ROWS = 64  # drafted in one sweep
MOST_DEPTH = 16  # drafted for one sequence
HOPED_CHANCE = 0.9  # of a drafted token, in text that repeats itself
SHORTEST_OUTPUT = 3  # the first comes with the prompt, one with every sweep


def with_draft_rows(request: Request, plan: Plan, common: Common) -> Plan:
    """The plan with rows for drafts, or as it is where they cannot pay or cannot be."""
    if plan.spill.layers:
        return plan
    predictor = Predictor(request, common)
    given = candidate_of_plan(request, plan)
    limit_s = request.draft_slack * predictor.timed(given).score_s
    rows = _rows_that_pay(predictor, given)
    while rows:
        timed = [predictor.timed(found) for found in _placed(request, given, rows)]
        best = min(timed, key=lambda found: found.score_s, default=None)
        if best is not None and best.score_s <= limit_s:
            return best.plan
        rows //= 2
    return plan


def wants_drafts(request: Request) -> bool:
    """Whether drafts are allowed, can be taken back and a sweep could give several tokens."""
    if request.config.recurrent is not None:
        return False
    longest = max(request.workload.output_lens)
    return request.speculation != "off" and longest >= SHORTEST_OUTPUT


def forced_rows(request: Request) -> Iterator[Request]:
    """The request with rows that its plan must have, most first."""
    rows = min(MOST_ROWS, MOST_DEPTH * len(request.workload.prompt_lens))
    while rows:
        yield replace(request, draft_rows=rows)
        rows //= 2


def cost_of(request: Request, plan: Plan) -> ModelledCost:
    """What verifying drafts costs with a plan that was made for `request`."""
    return ModelledCost(Predictor(request).times(candidate_of_plan(request, plan)))


def _rows_that_pay(predictor: Predictor, given: Candidate) -> int:
    """Rows that would be drafted at the middle of the run if most drafts were right."""
    (piece,) = mean_decode(predictor.request.workload, given.sizes.max_sequences).shape.pieces
    cost = ModelledCost(predictor.times(given))
    offers = [Offer(HOPED_CHANCE, MOST_DEPTH)] * piece.sequences
    sweep_s = partial(cost, piece.sequences, piece.context)
    return sum(choose_depths(offers, piece.sequences, MOST_ROWS, sweep_s))


def _placed(request: Request, given: Candidate, rows: int) -> Iterator[Candidate]:
    """With a ring that reads as far ahead, and hardly more to read.

    The prediction does not tell: it may see a slack between reads that the disk does not have.
    """
    most_bytes = request.draft_slack * given.streamed_bytes
    for depth in host_ring_depths(request.profile.disk_read):
        for found in place(request, given.model, with_rows(given.sizes, rows), depth):
            deep = found.residency.ring_bytes >= given.residency.ring_bytes
            if deep and found.streamed_bytes <= most_bytes:
                yield replace(found, threads=given.threads, lends=given.lends and found.can_lend)


def with_rows(sizes: Sizes, rows: int) -> Sizes:
    """Sizes of sweeps that verify `rows` tokens beside one of each sequence, at once."""
    most = sizes.max_sequences + rows if rows else 0
    return replace(
        sizes,
        draft_rows=rows,
        sweep_tokens=max(sizes.sweep_tokens, most),
        micro_batch_tokens=max(sizes.micro_batch_tokens, most),
    )
