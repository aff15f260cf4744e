from __future__ import annotations

from dataclasses import replace

import pytest

from lm_offload.errors import BudgetError
from lm_offload.plan import Workload
from lm_offload.planner.choose.draft_rows import MOST_DEPTH, cost_of
from lm_offload.planner.choose.search import make_plan
from lm_offload.planner.choose.verify_cost import MARGIN
from lm_offload.planner.decided.plan_choice import choice_of
from lm_offload.units import GIB, MIB
from tests.planner.requests import PROFILE, TINY, make_request

SMALL = {
    **TINY,
    "vocab_size": 32000,
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_hidden_layers": 8,
    "head_dim": 64,
    "torch_dtype": "bfloat16",
}
ONE = Workload((64,), (64,))


def request_of(speculation, workload=ONE, budget_bytes=500 * MIB, profile=PROFILE):
    return replace(make_request(SMALL, workload, budget_bytes, profile), speculation=speculation)


def test_a_plan_that_streams_has_rows_and_is_hardly_slower_without_drafts():
    plain, found = (make_plan(request_of(way)) for way in ("off", "auto"))
    assert plain.streamed
    assert plain.draft_rows == 0 < found.draft_rows <= MOST_DEPTH
    assert found.logit_rows == 1 + found.draft_rows
    assert found.used_bytes <= found.budget_bytes
    assert found.predicted.run_s <= 1.01 * plain.predicted.run_s
    assert found.streamed_bytes <= 1.01 * plain.streamed_bytes


def test_rows_that_cost_as_much_as_they_bring_are_not_reserved():
    slow = replace(PROFILE, cpu=replace(PROFILE.cpu, peak_flops=1e10, memory_bytes_per_s=1e12))
    found = make_plan(request_of("auto", budget_bytes=4 * GIB, profile=slow))
    assert found.draft_rows == 0
    assert make_plan(request_of("prompt-lookup", budget_bytes=4 * GIB, profile=slow)).draft_rows


@pytest.mark.parametrize("speculation", ["auto", "prompt-lookup"])
def test_outputs_that_end_at_once_need_none(speculation):
    assert make_plan(request_of(speculation, Workload((64,), (2,)))).draft_rows == 0


def test_where_no_row_fits_the_error_names_a_budget_that_works():
    with pytest.raises(BudgetError, match="the smallest that works") as caught:
        make_plan(request_of("prompt-lookup", budget_bytes=MIB))
    kib = int(str(caught.value).split(" KiB")[0].rsplit(" ", 1)[1])
    assert make_plan(request_of("prompt-lookup", budget_bytes=kib << 10)).draft_rows == 1


def test_costs_have_a_margin_and_grow_with_rows():
    request = request_of("auto")
    plan = make_plan(request)
    cost = cost_of(request, plan)
    costs = [cost(1, 128, rows) for rows in (0, 1, 8, 64)]
    assert costs == sorted(costs)
    assert costs[1] >= MARGIN * costs[0]
    assert choice_of(plan).draft_rows == plan.draft_rows
