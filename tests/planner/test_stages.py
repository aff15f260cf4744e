"""Stages of a model: the best of all cuts, within every budget, timed by the executor's tasks."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_offload.errors import BudgetError
from lm_offload.hardware.machine_file import load_machine
from lm_offload.plan import Workload
from lm_offload.planner.choose.common import Common
from lm_offload.planner.choose.predictor import Predictor
from lm_offload.planner.choose.search import candidates, fastest_plans, make_plan
from lm_offload.planner.decided.candidate_plan import device_plan
from lm_offload.planner.decided.fixed_plan import fixed_plan
from lm_offload.planner.decided.plan_choice import choice_of
from lm_offload.planner.places.stage_cut import balanced
from lm_offload.planner.places.stages import in_turn
from lm_offload.planner.request import DeviceBudget, Request, joined
from lm_offload.units import GIB, MIB
from tests.planner.requests import TINY, make_request

MACHINE = load_machine(Path(__file__).parents[1] / "device_machine.yaml")
SMALL = {
    **TINY,
    "vocab_size": 32000,
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "max_position_embeddings": 4096,
    "torch_dtype": "bfloat16",
}
WORKLOAD = Workload((128,) * 32, (32,) * 32)


def request_of(*budgets_bytes, cpu_bytes=8 * GIB, workload=WORKLOAD) -> Request:
    stages = [DeviceBudget(f"null:{i}", size) for i, size in enumerate(budgets_bytes)]
    device = joined(stages) if len(stages) > 1 else replace(stages[0], attention="device")
    return replace(make_request(SMALL, workload, cpu_bytes, MACHINE), device=device)


def plan_of(*budgets_bytes, **options):
    return make_plan(request_of(*budgets_bytes, **options))


@given(
    st.lists(st.floats(0.1, 9), min_size=4, max_size=9),
    st.lists(st.floats(0.5, 3), min_size=2, max_size=4),
)
def test_the_slowest_stage_is_as_fast_as_in_the_best_of_all_cuts(layers, factors):
    def seconds(stage: int, start: int, end: int) -> float:
        total_s = factors[stage] * sum(layers[start:end])
        return math.inf if total_s > 40 else total_s

    def slowest_s(cuts) -> float:
        pairs = enumerate(pairwise([0, *cuts, len(layers)]))
        return max(seconds(stage, *pair) for stage, pair in pairs)

    every = combinations(range(1, len(layers)), len(factors) - 1)
    best_s = min(map(slowest_s, every))
    ends = range(len(layers) + 1)
    found = balanced(
        np.array(
            [
                [[seconds(stage, i, j) if i < j else math.inf for j in ends] for i in ends]
                for stage in range(len(factors))
            ]
        )
    )
    assert (found is None) == (best_s == math.inf)
    if found:
        assert slowest_s(found[:-1]) == best_s
        assert found[-1] == len(layers)


def test_more_devices_than_layers_cannot_be_served():
    with pytest.raises(BudgetError, match=r"17 devices were given for a model of 16 layers"):
        plan_of(*[GIB] * 17)


def test_alike_devices_share_the_layers_evenly_and_a_small_one_gets_few():
    def layers_of(plan) -> list[int]:
        return [sum("attention" in name for name in it.units) for it in plan.device.stages]

    first, second = layers_of(plan_of(4 * GIB, 4 * GIB))
    assert abs(first - second) <= 3  # the head is computed beside the last ones
    small, large = layers_of(plan_of(300 * MIB, 4 * GIB))
    assert small < large


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(200, 3000), min_size=2, max_size=3), st.integers(1, 5))
def test_every_candidate_keeps_every_budget_and_has_each_unit_once(sizes_mib, cpu_gib):
    request = request_of(*(size * MIB for size in sizes_mib), cpu_bytes=cpu_gib * GIB)
    request = replace(request, workload=Workload((64,) * 4, (8,) * 4))
    for candidate in candidates(request):
        plan = device_plan(request, candidate)
        names = [sized.unit.name for sized in request.models[0].units]
        assert sorted(name for stage in plan.stages for name in stage.units) == sorted(names)
        assert names[0] in plan.stages[0].units
        assert names[-1] in plan.stages[-1].units
        for stage, budget in zip(plan.stages, request.device.stages, strict=True):
            assert stage.used_bytes <= budget.budget_bytes
            assert {*stage.resident} <= {*stage.units}
        assert candidate.peak_bytes["cpu"] <= request.budget_bytes
        assert plan.used_bytes == sum(stage.used_bytes for stage in plan.stages)
        assert plan.uploaded_bytes == sum(stage.uploaded_bytes for stage in plan.stages)


def test_two_devices_that_hold_the_model_beat_one_that_does_not():
    alone, together = plan_of(GIB), plan_of(GIB, 2 * GIB)
    assert together.predicted.run_s < 0.5 * alone.predicted.run_s


def test_devices_that_upload_take_turns_and_bring_their_links_together():
    request = request_of(900 * MIB)
    whole = replace(request, device=replace(request.device, in_place="none"))
    alone, together = make_plan(whole), plan_of(450 * MIB, 450 * MIB)
    first, second = (plan.predicted.step_s["decode"] for plan in (alone, together))
    assert second.total_s < 0.85 * first.total_s  # with a second ring in the same memory
    assert all(device.h2d_s > 0.75 * second.total_s for device in second.devices)
    assert all(len(stage.begins) > 2 for stage in together.device.stages)


def test_where_nothing_is_uploaded_each_device_has_one_stretch():
    assert [len(stage.begins) for stage in plan_of(4 * GIB, 4 * GIB).device.stages] == [1, 1]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=4))
def test_layers_are_mixed_evenly(counts):
    devices = in_turn(counts)
    assert [devices.count(device) for device in range(len(counts))] == counts
    assert (devices[0], devices[-1]) == (0, len(counts) - 1)
    for device, count in enumerate(counts):
        for layers in range(len(devices) + 1):
            share = count * layers / len(devices)
            assert abs(devices[:layers].count(device) - share) <= len(counts)


def test_a_prefill_in_many_micro_batches_takes_half_the_time_on_two_devices():
    workload = Workload((2048,) * 8, (1,) * 8)
    alone, together = (plan_of(*[8 * GIB] * n, workload=workload) for n in (1, 2))
    assert 1.6 < alone.predicted.run_s / together.predicted.run_s <= 2.0
    (first, second) = together.predicted.step_s["prefill"].devices
    assert first.gpu_s == pytest.approx(second.gpu_s, rel=0.3)


@pytest.mark.parametrize("budgets_mib", [(300, 500), (700, 400), (3000, 3000)])
def test_estimates_agree_with_the_simulated_tasks(budgets_mib):
    request = request_of(*(size * MIB for size in budgets_mib))
    predictor = Predictor(request, Common())
    for timed in fastest_plans(request)[:4]:
        estimate_s = predictor.estimate_s(timed.candidate)
        assert estimate_s == pytest.approx(timed.score_s, rel=0.25)


def test_a_decided_plan_is_predicted_alike():
    request = request_of(500 * MIB, 700 * MIB)
    plan = make_plan(request)
    assert len(plan.device.stages[0].begins) > 1
    again = fixed_plan(request, choice_of(plan))
    assert again.device == plan.device
    assert again.predicted == plan.predicted
