"""Plans whose MLPs are two units each: where that is predicted to be faster, and where it fits."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_offload.arch.halves import are_cut
from lm_offload.errors import BudgetError
from lm_offload.plan import Plan, Workload
from lm_offload.planner.choose.common import Common
from lm_offload.planner.choose.search import better_plan, candidates, make_plan, ranked_plans
from lm_offload.planner.choose.smallest import smallest_memory
from lm_offload.planner.reasons.explain import explain
from lm_offload.planner.request import Request
from lm_offload.units import MIB
from tests.arch.real_configs import OPT_350M
from tests.planner.machines import PLAIN
from tests.planner.requests import TINY, make_request

MEDIUM = {**TINY, "hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 12}
WORKLOAD = Workload((8,) * 4, (16,) * 4)


def request_of(budget_mib: float, workload: Workload = WORKLOAD, raw=MEDIUM, **more) -> Request:
    return make_request(raw, workload, int(budget_mib * MIB), PLAIN, **more)


def whole(request: Request) -> Request:
    """The same of a model that cannot be cut."""
    models = [
        replace(model, units=[replace(sized, parts=()) for sized in model.units])
        for model in request.models
    ]
    return replace(request, models=models)


def is_cut(plan: Plan) -> bool:
    return are_cut(plan.unit_names)


def smallest_bytes(request: Request) -> int:
    return sum(size for _, size in smallest_memory(request))


def test_a_small_budget_has_them_cut_and_a_large_one_has_not() -> None:
    small, large = make_plan(request_of(30)), make_plan(request_of(500))
    assert is_cut(small)
    assert small.streamed
    assert not is_cut(large)
    assert not large.streamed


@settings(max_examples=12)
@given(
    mib=st.floats(22, 160),
    count=st.sampled_from([1, 4, 32]),
    prompt=st.sampled_from([4, 300]),
    formats=st.sampled_from([(), ("int8:64",)]),
)
def test_no_plan_is_slower_than_that_of_whole_mlps(mib, count, prompt, formats) -> None:
    request = request_of(mib, Workload((prompt,) * count, (12,) * count), formats=formats)
    try:
        wanted = make_plan(whole(request))
    except BudgetError:
        return
    found = make_plan(request)
    assert found.used_bytes <= request.budget_bytes
    assert found.predicted.run_s <= 1.011 * wanted.predicted.run_s


def test_the_smallest_budget_is_smaller() -> None:
    request = request_of(1)
    needed = smallest_bytes(request)
    largest = max(request.models[0].unit_bytes)
    assert needed < smallest_bytes(whole(request)) - largest // 4
    assert is_cut(make_plan(replace(request, budget_bytes=needed)))
    with pytest.raises(BudgetError):
        make_plan(replace(request, budget_bytes=needed - 4096))


def test_rows_of_the_inner_size_count() -> None:
    plan = make_plan(request_of(30))
    assert dict(plan.memory)["inner rows"] >= plan.sweep_tokens * MEDIUM["intermediate_size"] * 4
    assert plan.used_bytes <= plan.budget_bytes


def test_long_prompts_have_whole_mlps() -> None:
    assert not is_cut(make_plan(request_of(80, Workload((500,) * 32, (2,) * 32))))


def test_what_is_all_in_memory_is_not_cut() -> None:
    for found in candidates(request_of(120)):
        assert found.streamed or not found.model.is_cut


def test_models_without_gates_are_whole() -> None:
    raw = {**OPT_350M, "num_hidden_layers": 4}
    request = make_request(raw, WORKLOAD, 80 * MIB, PLAIN)
    assert request.models[0].cut is None
    assert not is_cut(make_plan(request))


def test_another_way_to_hold_mlps_is_a_runner_up_that_says_so() -> None:
    request, common = request_of(30), Common()
    plan = make_plan(request, common)
    names = [other.name for other in explain(request, plan, common=common).runners_up]
    assert any(name.endswith("whole MLPs") for name in names)


def test_each_format_is_ranked_once_however_its_mlps_are_held() -> None:
    request = request_of(30, formats=("int8:64", "int4:64"))
    ranked = ranked_plans(request)
    assert {timed.plan.weight_format for timed in ranked} == {"fp32", "int8:64", "int4:64"}


def test_a_better_machine_is_planned_for_with_both() -> None:
    request, common = request_of(30), Common()
    plan = make_plan(request, common)
    more = better_plan(replace(request, budget_bytes=request.budget_bytes * 20), common)
    assert not more.streamed
    assert more.predicted.run_s < plan.predicted.run_s
