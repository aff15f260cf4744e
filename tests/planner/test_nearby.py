"""More memory is not predicted to be slower: what could be done with less can be done still."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lm_offload.plan import Workload
from lm_offload.planner.choose.nearby import nearby
from lm_offload.planner.choose.predictor import Predictor
from lm_offload.planner.choose.rank import TIE
from lm_offload.planner.choose.search import fastest_plans
from lm_offload.planner.decided.fixed_plan import fixed_timed
from lm_offload.planner.decided.plan_choice import choice_of
from lm_offload.planner.request import Request
from tests.planner.machines import PLAIN
from tests.planner.requests import TINY, make_request
from tests.planner.test_exhaustive import on_device

SMALL = {**TINY, "hidden_size": 256, "intermediate_size": 768}
LATENCY = Workload((60,) * 4, (40,) * 4, objective="latency")
RAGGED = Workload((20, 100, 60, 60), (2,) * 4, objective="latency")
MANY = Workload((5, 5, 20, 20, 20, 100, 5, 100), (10,) * 8)


def request_of(layers, work, cpu_bytes, gpu_bytes, link=1e9, raw=SMALL) -> Request:
    raw = {**raw, "num_hidden_layers": layers}
    request = on_device(make_request(raw, work, cpu_bytes, PLAIN), 1, link)
    assert request.device
    return replace(request, device=replace(request.device, budget_bytes=gpu_bytes))


NEIGHBOURS = [  # two budgets, of which searches found the worse plan for the larger one
    (request_of(3, LATENCY, 4741330, 4952136), request_of(3, LATENCY, 4741330, 5048146)),
    (request_of(6, RAGGED, 15806671, 8498815), request_of(6, RAGGED, 16378554, 8498815)),
    (
        request_of(4, MANY, 463938, 294954, 4e10, TINY),
        request_of(4, MANY, 463938, 310928, 4e10, TINY),
    ),
]


@pytest.mark.parametrize(("less", "more"), NEIGHBOURS)
def test_more_memory_is_not_slower(less, more):
    kept = fixed_timed(more, choice_of(fastest_plans(less)[0].plan))
    assert fastest_plans(more)[0].score_s <= TIE * kept.score_s


@pytest.mark.parametrize("request_", [more for _, more in NEIGHBOURS])
def test_what_is_near_fits_the_memory_that_is_there(request_):
    predictor, best = Predictor(request_), fastest_plans(request_)[0]
    found = nearby(predictor, best.candidate, 2 * best.score_s)
    estimates = [estimate_s for estimate_s, _ in found]
    assert found
    assert estimates == sorted(estimates)
    assert max(estimates) < 2 * best.score_s
    for _, candidate in found:
        assert candidate.peak_bytes["cpu"] <= best.candidate.peak_bytes["cpu"] or (
            candidate.peak_bytes["gpu"] <= best.candidate.peak_bytes["gpu"]
        )
        assert candidate.peak_bytes["cpu"] <= request_.budget_bytes
        assert candidate.peak_bytes["gpu"] <= request_.device.budget_bytes
