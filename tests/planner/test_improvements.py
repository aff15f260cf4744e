"""What would help, searched from the plan that is known, against searches that know nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lm_offload.plan import Plan
from lm_offload.planner.choose.best_first import MISSED
from lm_offload.planner.choose.bounds import Bounds
from lm_offload.planner.choose.common import Common
from lm_offload.planner.choose.predictor import Predictor
from lm_offload.planner.choose.search import better_plan, make_plan
from lm_offload.planner.reasons.improvements import FACTOR, Improvements
from lm_offload.planner.request import Request
from tests.planner import test_exhaustive as cases
from tests.planner.test_in_place import request_of as in_place_request

ALIKE = 1.01 * MISSED  # plans within a per cent are equals, and a search may miss MISSED
REQUESTS = [cases.REQUESTS[1], in_place_request(4e9)]


def improved(request: Request) -> tuple[Plan, Improvements]:
    common = Common()
    plan = make_plan(request, common)
    return plan, Improvements(request, plan, common)


@pytest.mark.parametrize("request_", REQUESTS)
def test_what_would_help_is_what_a_search_of_its_own_finds(request_):
    _, better = improved(request_)
    requests = dict(better._with_more_memory())
    requests |= {f"{FACTOR:.0f}x faster {name}": it for name, it in better._faster.items()}
    for found in better.what_ifs():
        alone = make_plan(requests[found.change])
        assert found.figures.run_s <= ALIKE * alone.predicted.run_s, found.change


def test_another_format_is_planned_as_by_a_search_of_its_own():
    request = cases.REQUESTS[1]
    only = replace(request, models=request.models[1:])
    found, alone = better_plan(only, Common()), make_plan(only)
    assert found.predicted.run_s <= ALIKE * alone.predicted.run_s


@pytest.mark.parametrize("request_", [*cases.REQUESTS[3:5], cases.BESIDE[0], REQUESTS[1]])
def test_with_a_rate_doubled_no_group_takes_less_than_half(request_):
    _, better = improved(request_)
    floors_s, groups = better._floors_s(), better.common.searched[0].search.groups
    for request in better._faster.values():
        bounds = Bounds(Predictor(request))
        for floor_s, group in zip(floors_s, groups, strict=True):
            assert floor_s <= 1.0001 * bounds.group_s(*group)


def test_a_plan_that_is_as_good_is_kept():
    request = in_place_request(4e9)
    plan, better = improved(request)
    same = better._timed(request)
    assert better_plan(request, Common(), same).predicted.run_s == plan.predicted.run_s
