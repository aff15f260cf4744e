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
from math import inf

from lm_offload.errors import BudgetError
from lm_offload.plan import Plan
from lm_offload.planner.choose.best_first import BestFirst, Group, way_of
from lm_offload.planner.choose.bounds import Bounds
from lm_offload.planner.choose.common import Common
from lm_offload.planner.choose.draft_rows import (
    FORCED,
    forced_rows,
    wants_drafts,
    with_draft_rows,
)
from lm_offload.planner.choose.mixed_sweeps import mixed
from lm_offload.planner.choose.nearby import nearby
from lm_offload.planner.choose.options import expanded, groups_of, ways
from lm_offload.planner.choose.predictor import Predictor, Timed
from lm_offload.planner.choose.rank import best_of, rank
from lm_offload.planner.choose.smallest import need_text
from lm_offload.planner.places.candidate import Candidate
from lm_offload.planner.request import Request

NEAR_WAYS = 3  # ways to run the model of which plans near the best one are looked at


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
        return sorted(map(self.predictor.timed, found), key=rank)


def make_plan(request: Request, common: Common | None = None) -> Plan:
    """The fastest plan, with room for drafts where the request wants them and no device computes.

    `common` is what other searches for the same workload have found. Raises BudgetError with the
    table of bytes if none fits.
    """
    common = common or Common()
    if request.device is None and wants_drafts(request) and request.speculation in FORCED:
        *more, least = forced_rows(request)
        fits = (it for it in more if next(candidates(it), None) is not None)
        return fastest_plans(next(fits, least), common)[0].plan
    searched = _searched(request, common)
    best = _on_its_threads(searched.predictor, searched.fastest[0])
    return _with_drafts(searched.predictor, best.plan)


def better_plan(
    request: Request, common: Common, known: Timed | None = None, floors_s: Sequence[float] = ()
) -> Plan:
    """A plan to compare with, found in less time: the best, or `known` if that is as good.

    Of the candidates only those are simulated whose estimates are below what was simulated
    before. `floors_s` are bounds of the groups of the search. Raises BudgetError as `make_plan`.
    """
    search = _search(request, common)
    predictor = search.bounds.predictor
    found = search.better_than(known.score_s if known else inf, floors_s)
    best = best_of(predictor, found, known)
    if best is None:
        raise BudgetError(need_text(request))
    if best is known:
        return known.plan
    return _with_drafts(predictor, _on_its_threads(predictor, best).plan)


def _on_its_threads(predictor: Predictor, best: Timed) -> Timed:
    return best if predictor.request.device else predictor.with_best_threads(best)


def _with_drafts(predictor: Predictor, plan: Plan) -> Plan:
    request = predictor.request
    drafts = request.device is None and wants_drafts(request)
    return with_draft_rows(request, plan, predictor.common) if drafts else plan


def fastest_plans(request: Request, common: Common | None = None) -> Sequence[Timed]:
    """The best plans, of several kinds (formats, sequences in flight, ring), fastest first.

    All of them on every core, or on the threads that were asked for. Raises BudgetError with
    the table of bytes if none fits.
    """
    return _searched(request, common or Common()).fastest


def ranked_plans(request: Request, common: Common | None = None) -> Sequence[Timed]:
    """The fastest plans, and the best of each format that is not among them, fastest first."""
    searched = _searched(request, common or Common())
    known = {(timed.plan.weight_format, timed.plan.kv_format) for timed in searched.fastest}
    missing = (
        model
        for model in request.models
        if (str(model.weight_format), str(model.kv_format)) not in known
    )
    others = [*itertools.chain.from_iterable(map(searched.search.best_of, missing))]
    return sorted([*searched.fastest, *searched.timed(others)], key=rank)


def _searched(request: Request, common: Common) -> Searched:
    """Each request once; raises BudgetError if nothing fits."""
    for known in common.searched:
        if known.request == request:
            return known
    search = _search(request, common)
    best = search.best()
    if not best:
        raise BudgetError(need_text(request))
    if request.workload.objective == "latency" and request.device is None:
        best += mixed(search, best[0])
    found = Searched(request, search, ())
    found = replace(found, fastest=_with_other_ways(found, found.timed(best)))
    found = replace(found, fastest=_with_nearby(found))
    common.searched.append(found)
    return found


def _with_other_ways(found: Searched, fastest: Sequence[Timed]) -> Sequence[Timed]:
    """With other ways to run the model that are faster than what was simulated.

    Estimates are optimistic, of some ways more than of others: what one estimate rules out may
    still be faster than what that proves to be.
    """
    search, best = found.search, fastest[0]
    others = search.other_ways(timed.candidate for timed in fastest)
    for groups in others:
        better = search.better_among(groups, best.score_s)
        best = best_of(found.predictor, better, best) or best
    return fastest if best is fastest[0] else [best, *fastest]


def _with_nearby(found: Searched) -> Sequence[Timed]:
    """With plans near the best of each way that are faster than all."""
    fastest, predictor = found.fastest, found.predictor
    best, of_each_way = fastest[0], dict[object, Timed]()
    for timed in fastest:
        of_each_way.setdefault(way_of(timed.candidate), timed)
    for timed in itertools.islice(of_each_way.values(), NEAR_WAYS):
        best = best_of(predictor, nearby(predictor, timed.candidate, best.score_s), best) or best
    return fastest if best is fastest[0] else [best, *fastest]


def _search(request: Request, common: Common) -> BestFirst:
    bounds = Bounds(Predictor(request, common))
    options = partial(expanded, request), partial(ways, bounds.predictor)
    return BestFirst(bounds, _groups_of(request, common), *options)


def _groups_of(request: Request, common: Common) -> Sequence[Group]:
    """The same for any budget and profile, which are many; remembered between searches."""
    device, models = request.device, request.models
    asked = device and (device.attention, device.in_place)
    rows = request.workload, request.draft_rows, request.kept_states, request.spill_bytes > 0
    key = (*map(id, models), asked, *rows)
    if key not in common.groups:
        common.groups[key] = models, [*groups_of(request)]
    return common.groups[key][1]


def candidates(request: Request) -> Iterator[Candidate]:
    """Everything that can be chosen and fits the budget."""
    predictor = Predictor(request)
    for group in groups_of(request):
        for sizes in group.options:
            for option in expanded(request, group, sizes):
                yield from ways(predictor, group.model, option)
