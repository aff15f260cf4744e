"""The plan of a draft model, all of it resident, and that of the big model in what is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from lm_offload.engine.model_files import ModelFiles
from lm_offload.engine.planning import sizes_of
from lm_offload.errors import BudgetError
from lm_offload.kvcache.cache import blocks_for
from lm_offload.plan import Plan, Workload
from lm_offload.planner.choose.draft_rows import FORCED, MOST_DEPTH, cost_of, wants_drafts
from lm_offload.planner.choose.predictor import Predictor
from lm_offload.planner.choose.smallest import smallest_memory
from lm_offload.planner.costs.memory import Sizes, memory_table
from lm_offload.planner.costs.ring_depth import RingDepth
from lm_offload.planner.places.candidate import Candidate
from lm_offload.planner.places.host_placement import place
from lm_offload.planner.request import Request
from lm_offload.speculation.acceptance import HOPED_CHANCE
from lm_offload.speculation.depths import Choice, Offer, best_choice
from lm_offload.units import KIB, format_bytes

ROWS_SLACK = 1.1  # slower without drafts at most, for the memory of the rows that they need
CAUTION = 2.0  # times its cost must be gained by planning anew: outputs may end early
MOST_SEQUENCES = 16  # that a draft model works on at once; of more, rows are seldom free
STEP_ROWS = 64  # of a prompt that it computes at once
Rows = tuple[tuple[str, int], ...]  # of a table of bytes


def plan_beside(
    draft: ModelFiles | None, request: Request, make: Callable[[Request], Plan]
) -> Plan:
    """What `make` plans for the request, beside the draft model in the same budget.

    Without it where drafts that are often right are not predicted to make up for its memory.
    Raises BudgetError if both do not fit.
    """
    if draft is None or not wants_drafts(request):
        return make(request)
    alone = replace(request, spill_bytes=0)  # a KV cache on disk leaves no room for drafts
    found = _fitting(draft, alone)
    left_bytes = request.budget_bytes - found.peak_bytes["cpu"]
    left = replace(alone, budget_bytes=left_bytes, draft_slack=ROWS_SLACK)
    plan = make(left)
    small = Predictor(draft_request(draft, request)).timed(found).plan
    if request.speculation in FORCED or (plan.draft_rows and _pays(draft, left, plan, small)):
        return _together(request, plan, small, _rows(found))
    return make(request)


def draft_request(draft: ModelFiles, request: Request) -> Request:
    """The request as the draft model sees it: as much of each text as it can take."""
    work, most = request.workload, draft.config.max_positions
    prompts = tuple(min(length, most - 1) for length in work.prompt_lens)
    outputs = tuple(
        min(output, most - prompt) for prompt, output in zip(prompts, work.output_lens, strict=True)
    )
    workload = Workload(prompts, outputs, objective=work.objective)
    return Request([sizes_of(draft)], workload, request.profile, 0, threads=request.threads)


def _fitting(draft: ModelFiles, request: Request) -> Candidate:
    """The draft model for as many sequences at once as leave enough to the big model."""
    rows = 1 if request.speculation in FORCED else 0
    least = sum(size for _, size in smallest_memory(replace(request, draft_rows=rows)))
    for count in _halves(min(len(request.workload.prompt_lens), MOST_SEQUENCES)):
        found = _resident(draft_request(draft, request), count)
        if found.peak_bytes["cpu"] + least <= request.budget_bytes:
            return found
    needed_bytes = found.peak_bytes["cpu"]
    rows_text = "".join(f"\n  {name:<22}{format_bytes(size)}" for name, size in _rows(found))
    raise BudgetError(
        f"A CPU memory budget of {format_bytes(request.budget_bytes)} was given, the draft model "
        f"takes {format_bytes(needed_bytes)} and the smallest that works for both is "
        f"{-(-(needed_bytes + least) // KIB)} KiB; raise --cpu-memory or leave --draft-model out:"
        f"{rows_text}"
    )


def _halves(count: int) -> Iterator[int]:
    while count:
        yield count
        count //= 2


def _resident(request: Request, count: int) -> Candidate:
    """In exactly the memory that it takes, for the `count` longest sequences."""
    (model,), lengths = request.models, sorted(request.workload.total_lens)[-count:]
    rows = max(min(sum(lengths), STEP_ROWS), count)
    sizes = Sizes(sum(map(blocks_for, lengths)), count, rows, rows)
    others = sum(size for _, size in memory_table(model, sizes, table_resident=True))
    budget_bytes = model.units_bytes + model.table_bytes + others
    (found,) = place(replace(request, budget_bytes=budget_bytes), model, sizes, RingDepth(1))
    return found


def _pays(draft: ModelFiles, request: Request, plan: Plan, small: Plan) -> bool:
    """Whether drafts that are often right give more than the draft model's memory would."""
    drafting, alone = _tokens_per_s(draft, request, plan, small, HOPED_CHANCE)
    return any(drafting.depths) and drafting.tokens_per_s > alone


def gives_way(
    draft: ModelFiles, request: Request, plan: Plan, chance: float, left: int, known: int
) -> bool:
    """Whether the draft model of `plan`, right with `chance`, should leave its memory.

    That is where the `left` tokens of a run gain more than reading what is resident and computing
    the `known` tokens again costs.
    """
    if plan.draft is None or not plan.predicted.prefill_tokens_per_s:
        return False
    drafting, alone = _tokens_per_s(draft, request, plan, plan.draft, chance)
    again_s = request.profile.disk_read.transfer_s(plan.used_bytes)
    again_s += known / plan.predicted.prefill_tokens_per_s
    return left / drafting.tokens_per_s - left / alone > CAUTION * again_s


def _tokens_per_s(
    draft: ModelFiles, request: Request, plan: Plan, small: Plan, chance: float
) -> tuple[Choice, float]:
    """With drafts that are right with `chance`, and with the draft model's memory instead.

    With that memory a sweep had less to read, but no less to compute.
    """
    count = min(plan.max_sequences, small.max_sequences)
    context = max(request.workload.total_lens)
    step_s = cost_of(draft_request(draft, request), small)(count, context, 0)
    offers = [Offer(chance, MOST_DEPTH, step_s)] * count
    sweep_s = partial(cost_of(request, plan), count, context)
    drafting = best_choice(offers, count, plan.draft_rows, sweep_s)
    alone = plan.predicted.step_s["decode"]
    kept_frac = max(1 - small.used_bytes / max(plan.streamed_bytes, 1), 0.0)
    alone_s = max(sweep_s(0) * kept_frac, alone.cpu_s + alone.overhead_s)
    return drafting, count / alone_s


def _together(request: Request, plan: Plan, small: Plan, rows: Rows) -> Plan:
    """Both in one table of bytes, on the same threads."""
    used_bytes = plan.predicted.peak_bytes
    peak_bytes = {**used_bytes, "cpu": used_bytes["cpu"] + small.used_bytes}
    return replace(
        plan,
        budget_bytes=request.budget_bytes,
        memory=(*plan.memory, *rows),
        predicted=replace(plan.predicted, peak_bytes=peak_bytes),
        draft=replace(small, threads=plan.threads),
    )


def _rows(found: Candidate) -> Rows:
    """The draft model's part of the table of bytes."""
    table = dict(found.memory)
    weights, cache = table.pop("resident weights"), table.pop("KV cache")
    return (
        ("draft model weights", weights),
        ("draft model KV cache", cache),
        ("draft model buffers", sum(table.values())),
    )
