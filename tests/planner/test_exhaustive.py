"""The search under bounds against all there is: every candidate estimated, every run simulated."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lm_offload.hardware.profile import HardwareProfile
from lm_offload.plan import IN_MEMORY, Workload
from lm_offload.planner.best_first import TIE
from lm_offload.planner.bounds import Bounds
from lm_offload.planner.predictor import Predictor
from lm_offload.planner.request import Request
from lm_offload.planner.search import candidates, fastest_plans
from lm_offload.units import GIB, MIB
from tests.planner.machines import PLAIN, disturbed, with_cpu
from tests.planner.requests import TINY, make_request

MODEL = {
    **TINY,
    "num_hidden_layers": 6,
    "hidden_size": 256,
    "intermediate_size": 768,
    "max_position_embeddings": 4096,
}
SLOW_CPU = with_cpu(peak_flops=1e10, kernel_s=1e-5, sweep_s=1e-4)
DISTURBED = disturbed(0.7, 0.8)
ONE, FEW = Workload((200,), (20,)), Workload((60,) * 5, (30,) * 5)
MANY = Workload((120,) * 8, (16,) * 8)
VARIED = Workload((30, 200, 70, 9), (5, 20, 40, 30))
CASES = [
    (ONE, 6, PLAIN, 0),
    (ONE, 9, DISTURBED, 0),
    (ONE, 30, PLAIN, 0),
    (FEW, 8, SLOW_CPU, 0),
    (FEW, 10, PLAIN, GIB),
    (MANY, 9, DISTURBED, GIB),
    (MANY, 14, SLOW_CPU, 0),
    (VARIED, 10, DISTURBED, 0),
    (replace(MANY, objective="latency"), 12, PLAIN, 0),
]


def request_of(
    workload: Workload, budget_mib: int, profile: HardwareProfile, spill_bytes: int
) -> Request:
    formats = () if spill_bytes else ("int4:32",)  # each adds as many candidates again
    request = make_request(MODEL, workload, budget_mib * MIB, profile, formats=formats)
    return replace(request, spill_bytes=spill_bytes)


@pytest.mark.parametrize("case", CASES)
def test_the_plan_that_is_found_is_as_good_as_the_best_there_is(case):
    request = request_of(*case)
    predictor = Predictor(request)
    best_s = min(predictor.timed(found).score_s for found in candidates(request))
    found = fastest_plans(request)
    # Estimates take prefill and decode apart; sweeps of few rows, which the mean request may be
    # done sooner with, mix them and are then not looked at.
    loss = 1.01 if request.workload.objective == "throughput" else 1.02
    assert min(timed.score_s for timed in found) <= loss * best_s
    assert found[0].score_s <= TIE**2 * best_s  # equals within a step are not told apart


@pytest.mark.parametrize("case", CASES)
def test_no_estimate_is_below_the_bound_of_its_sizes(case):
    request = request_of(*case)
    predictor = Predictor(request)
    bounds = Bounds(predictor)
    for found in candidates(request):
        sizes = replace(found.sizes, spill=IN_MEMORY)
        bound_s = bounds.sizes_s(found.model, sizes, spilled=found.sizes.spill != IN_MEMORY)
        assert bound_s <= 1.0001 * predictor.estimate_s(found)
