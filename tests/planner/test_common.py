"""What searches share changes nothing that they find."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lm_offload.plan import Workload
from lm_offload.planner.choose.common import Common
from lm_offload.planner.choose.predictor import Predictor
from lm_offload.planner.choose.search import candidates, fastest_plans, make_plan
from lm_offload.planner.choose.spare_sequences import spare_of, with_spare_sequences
from lm_offload.planner.reasons.explain import explain
from lm_offload.planner.reasons.what_if import faster_compute, faster_disk
from lm_offload.units import GIB, MIB
from tests.planner.machines import disturbed
from tests.planner.requests import TINY, make_request

MODEL = {**TINY, "num_hidden_layers": 6, "hidden_size": 256, "intermediate_size": 768}
WORK = Workload((60,) * 5, (30,) * 5)


def request_of(budget_mib: int = 10, **changes: object):
    request = make_request(MODEL, WORK, budget_mib * MIB, disturbed(0.7, 0.8), formats=("int4:32",))
    return replace(request, **changes)


def test_plans_and_reasons_are_those_of_searches_that_share_nothing():
    request, common = request_of(), Common()
    plan = make_plan(request, common)
    assert plan == make_plan(request)
    assert explain(request, plan, common=common) == explain(request, plan)


def test_other_profiles_and_budgets_are_told_apart():
    streamed = request_of()
    request, common = replace(streamed, models=streamed.models[:1]), Common()
    for helper in (faster_disk, faster_compute):
        other = replace(request, profile=helper(request.profile, 2.0))
        assert make_plan(request, common) != make_plan(other, common) == make_plan(other)


def test_a_request_is_searched_once():
    request, common = request_of(), Common()
    assert fastest_plans(request, common) is fastest_plans(replace(request), common)
    assert len(common.searched) == 1


@pytest.mark.parametrize("spill_bytes", [0, GIB])
def test_estimates_from_sums_are_those_of_the_units(spill_bytes: int):
    predictor = Predictor(request_of(8, spill_bytes=spill_bytes))
    shape = predictor.common.sweeps_of(WORK, next(candidates(predictor.request)).sizes)[0].shape
    for found in candidates(predictor.request):
        times = predictor.times(found)
        assert times.steady_s(shape) == pytest.approx(times.steady(shape).total_s, rel=1e-9)


@pytest.mark.parametrize("budget_mib", range(3, 11))
def test_spare_places_are_those_of_a_run_whose_outputs_may_end_early(budget_mib: int):
    request = request_of(budget_mib)
    plan = make_plan(request)
    spare = spare_of(request, plan, Common())
    early = replace(request, workload=replace(WORK, may_end_early=True))
    assert spare.sequences == with_spare_sequences(early, plan).spare_sequences
    assert ("room for their rows" in spare.reason) == (spare.sequences > 0)
