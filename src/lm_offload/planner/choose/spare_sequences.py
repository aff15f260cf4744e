"""Places for sequences beyond those whose longest outputs fit: for outputs that end early."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

from lm_offload.kvcache.cache import blocks_for
from lm_offload.plan import Plan
from lm_offload.planner.choose.common import Common
from lm_offload.planner.choose.predictor import Predictor
from lm_offload.planner.costs.memory import held_block_bytes
from lm_offload.planner.decided.fixed_plan import candidate_of, candidate_of_plan
from lm_offload.planner.decided.plan_choice import choice_of
from lm_offload.planner.places.candidate import Candidate
from lm_offload.planner.request import Request

MOST_FACTOR = 8  # times the sequences that fit at their longest
GIVEN_FRAC = 1 / 16  # of the KV blocks, for memory that the budget has not left
SLOWER = 1.02  # where no output ends early, by prediction
MOST_TIMED = 3  # each is the simulation of a run


@dataclass(frozen=True)
class Spare:
    """Places beyond `max_sequences` for runs whose outputs may end early, and why so many."""

    sequences: int
    reason: str


def spare_of(request: Request, plan: Plan, common: Common) -> Spare:
    """What `with_spare_sequences` adds to a plan where outputs may end early."""
    if plan.device is not None:
        return Spare(0, "beside a device there are none")
    if request.workload.objective == "latency":
        return Spare(0, "with the objective latency there are none")
    if plan.max_sequences == len(request.workload.prompt_lens):
        return Spare(0, "all prompts are in flight at their longest")
    early = replace(request.workload, may_end_early=True)
    found = with_spare_sequences(replace(request, workload=early), plan, common)
    if found.spare_sequences == 0:
        return Spare(0, "their rows have no room in the budget, or would make the run too slow")
    given = plan.kv_blocks - found.kv_blocks
    room = f"{given} of {plan.kv_blocks} KV blocks make" if given else "the budget has"
    return Spare(found.spare_sequences, f"{room} room for their rows")


def given_spare(plan: Plan) -> Spare:
    """Of a plan that was given."""
    return Spare(plan.spare_sequences, "as the plan says")


def with_spare_sequences(request: Request, plan: Plan, common: Common | None = None) -> Plan:
    """The plan with more sequences in flight, as far as the budget or a few blocks pay for them.

    They take a row of logits and index tensors each, and no block: whether there is one is seen
    while the run goes. Nothing is streamed for their sake, and the prediction stays that of
    outputs as long as they may become. Beside a device there are none. Where blocks are swapped
    they are not lent to weights any more, which counts neither for nor against it.
    """
    workload = request.workload
    if not workload.may_end_early or workload.objective == "latency" or plan.device:
        return plan
    predictor = Predictor(request, common or Common())
    given = candidate_of_plan(request, plan)
    for candidate in islice(_candidates(request, plan), MOST_TIMED):
        timed = predictor.timed(candidate)
        alike = given if candidate.lends == given.lends else replace(given, lends=False)
        if timed.score_s <= SLOWER * predictor.timed(alike).score_s:
            return timed.plan
    return plan


def _candidates(request: Request, plan: Plan) -> Iterator[Candidate]:
    """The plan with as many places more as fit, then with half as many, and so on."""
    in_flight = plan.max_sequences
    spare = min(len(request.workload.prompt_lens) - in_flight, (MOST_FACTOR - 1) * in_flight)
    while spare > 0:
        if found := _placed(request, plan, spare):
            yield found
        spare //= 2


def _placed(request: Request, plan: Plan, spare: int) -> Candidate | None:
    """The plan with `spare` places more, and fewer blocks where the budget has no room for them."""
    model = request.model_of(plan)
    rows = plan.max_sequences + spare + plan.draft_rows  # of a sweep, in one micro-batch
    choice = replace(
        choice_of(plan),
        spare_sequences=spare,
        sweep_tokens=max(plan.sweep_tokens, rows),
        micro_batch_tokens=max(plan.micro_batch_tokens, rows),
    )
    candidate = candidate_of(model, choice, plan.threads)
    lacking_bytes = candidate.peak_bytes["cpu"] - plan.budget_bytes
    if lacking_bytes <= 0:
        return candidate
    given = -(-lacking_bytes // max(held_block_bytes(model, plan.spill), 1)) + 1
    blocks = plan.kv_blocks - given
    longest = blocks_for(request.workload.most_tokens)
    if given > GIVEN_FRAC * plan.kv_blocks or blocks < longest:
        return None
    candidate = candidate_of(model, replace(choice, kv_blocks=blocks), plan.threads)
    return candidate if candidate.peak_bytes["cpu"] <= plan.budget_bytes else None
