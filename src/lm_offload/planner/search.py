"""Chooses the plan with the shortest predicted time among those that fit the budget.

Combinations of formats, sequences in flight, rows of a sweep and of a micro-batch, depth of the
ring and order of streaming are placed and estimated as long as their bounds leave hope; the runs of
the best few are then simulated.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from lm_offload.errors import BudgetError
from lm_offload.plan import Plan, Workload
from lm_offload.planner.best_first import BestFirst, Group, steps
from lm_offload.planner.bounds import Bounds
from lm_offload.planner.candidate import RING_DEPTHS, Candidate, place
from lm_offload.planner.common import Common
from lm_offload.planner.device_groups import groups_beside
from lm_offload.planner.device_placement import place_on_device
from lm_offload.planner.draft_rows import (
    FORCED,
    forced_rows,
    wants_drafts,
    with_draft_rows,
    with_rows,
)
from lm_offload.planner.in_place_choice import with_units_in_place
from lm_offload.planner.kv_spill import spills
from lm_offload.planner.memory import Sizes
from lm_offload.planner.mixed_sweeps import mixed
from lm_offload.planner.predictor import Predictor, Timed
from lm_offload.planner.request import ModelSizes, Request
from lm_offload.planner.smallest import blocks_needed, need_text
from lm_offload.quant.format import parse_format

MICRO_BATCH_TOKENS = (512, 256, 128, 64, 16, 1)
SWEEP_TOKENS = (8192, 2048, 512, 128, 16, 1)
SCORED_ROWS = (512, 64, 0)  # logits of prompts at once, where they are wanted


@dataclass(frozen=True)
class Searched:
    """A request that was searched, and the best plans of several kinds, fastest first."""

    request: Request
    search: BestFirst
    fastest: Sequence[Timed]

    @property
    def predictor(self) -> Predictor:
        """What timed the plans."""
        return self.search.bounds.predictor

    def timed(self, found: Sequence[Candidate]) -> list[Timed]:
        """The plans of candidates, fastest first."""
        return sorted(map(self.predictor.timed, found), key=_rank)


def make_plan(request: Request, common: Common | None = None) -> Plan:
    """The fastest plan, with room for drafts where the request wants them and no device computes.

    `common` is what other searches for the same workload have found. Raises BudgetError with the
    table of bytes if none fits.
    """
    common = common or Common()
    if request.device is not None:
        return fastest_plans(request, common)[0].plan
    if wants_drafts(request) and request.speculation in FORCED:
        *more, least = forced_rows(request)
        fits = (it for it in more if next(candidates(it), None) is not None)
        return fastest_plans(next(fits, least), common)[0].plan
    searched = _searched(request, common)
    plan = searched.predictor.with_best_threads(searched.fastest[0]).plan
    return with_draft_rows(request, plan, common) if wants_drafts(request) else plan


def fastest_plans(request: Request, common: Common | None = None) -> Sequence[Timed]:
    """The best plans, of several kinds (formats, sequences in flight, ring), fastest first.

    All of them on every core, or on the threads that were asked for. Raises BudgetError with
    the table of bytes if none fits.
    """
    return _searched(request, common or Common()).fastest


def ranked_plans(request: Request, common: Common | None = None) -> Sequence[Timed]:
    """The fastest plans, and the best of each format that is not among them, fastest first."""
    searched = _searched(request, common or Common())
    known = {id(timed.candidate.model) for timed in searched.fastest}
    missing = (model for model in request.models if id(model) not in known)
    others = [*itertools.chain.from_iterable(map(searched.search.best_of, missing))]
    return sorted([*searched.fastest, *searched.timed(others)], key=_rank)


def _searched(request: Request, common: Common) -> Searched:
    """Each request once; raises BudgetError if nothing fits."""
    for known in common.searched:
        if known.request == request:
            return known
    bounds = Bounds(Predictor(request, common))
    ways = partial(_expanded, request), partial(_ways, bounds.predictor)
    search = BestFirst(bounds, [*_groups(request)], *ways)
    best = search.best()
    if not best:
        raise BudgetError(need_text(request))
    if request.workload.objective == "latency" and request.device is None:
        best += mixed(search, best[0])
    found = Searched(request, search, ())
    found = replace(found, fastest=found.timed(best))
    common.searched.append(found)
    return found


def _rank(timed: Timed) -> tuple[object, ...]:
    """By time; among equals exact formats, then a cache in memory and one processor, then more rows
    at once, which start together, then reads that run further ahead.
    """
    plan = timed.plan
    lossy = [parse_format(name).is_packed for name in (plan.weight_format, plan.kv_format)]
    rows = (-plan.sweep_tokens, -plan.micro_batch_tokens)
    rest = (-plan.ring_bytes, plan.used_bytes)
    simple = bool(plan.spill.layers), bool(plan.device and plan.device.in_place)
    return (steps(timed.score_s), lossy, *simple, *rows, *rest)


def candidates(request: Request) -> Iterator[Candidate]:
    """Everything that can be chosen and fits the budget."""
    predictor = Predictor(request)
    for group in _groups(request):
        for sizes in group.options:
            for option in _expanded(request, group, sizes):
                yield from _ways(predictor, group.model, option)


def _groups(request: Request) -> Iterator[Group]:
    """Models and sequences in flight, with keys and values in memory or some on disk."""
    for model, in_flight in itertools.product(request.models, _in_flight_options(request.workload)):
        options = [
            with_rows(sizes, request.draft_rows) for sizes in _sizes(request.workload, in_flight)
        ]
        if request.device is not None:
            yield from groups_beside(request, Group(model, options, spilled=False))
            continue
        yield Group(model, options, spilled=False)
        if request.spill_bytes and not request.draft_rows:
            yield Group(model, options, spilled=True)


def _expanded(request: Request, group: Group, sizes: Sizes) -> Iterator[Sizes]:
    """An option of a group with the layers named that are on disk."""
    if not group.spilled:
        yield sizes
        return
    for spill in spills(request, group.model, sizes):
        yield replace(sizes, spill=spill)


def _ways(predictor: Predictor, model: ModelSizes, sizes: Sizes) -> Iterator[Candidate]:
    """Everything that sizes can be placed as."""
    placed = _placed(predictor.request, model, sizes)
    if not sizes.in_place_rows:
        yield from placed
        return
    for candidate in placed:
        yield from with_units_in_place(predictor, candidate)


def _placed(request: Request, model: ModelSizes, sizes: Sizes) -> Iterator[Candidate]:
    """With rings of several depths."""
    placed = place if request.device is None else place_on_device
    for depth in RING_DEPTHS:
        found = placed(request, model, sizes, depth)
        yield from found
        if found and not (found[0].streamed or found[0].uploaded):
            return  # without a ring there is no depth to choose


def _sizes(workload: Workload, in_flight: int) -> Iterator[Sizes]:
    """Rows of a sweep, of a micro-batch, with logits; those with fewer rows first."""
    blocks = blocks_needed(workload, in_flight)
    rows = sum(sorted(workload.computed_lens)[-in_flight:])
    sweeps = sorted({max(min(option, rows), in_flight) for option in SWEEP_TOKENS})
    for sweep_tokens in sweeps:
        micros = sorted({min(option, sweep_tokens) for option in MICRO_BATCH_TOKENS})
        most = min(workload.scored_tokens, sweep_tokens)
        scored = sorted({min(option, most) for option in SCORED_ROWS})
        for micro, extra in itertools.product(micros, scored):
            yield Sizes(blocks, in_flight, sweep_tokens, micro, extra)


def _in_flight_options(workload: Workload) -> list[int]:
    num_sequences = len(workload.prompt_lens)
    powers = [1 << exponent for exponent in range(num_sequences.bit_length())]
    return sorted({min(option, num_sequences) for option in [*powers, num_sequences]})
