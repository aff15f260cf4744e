"""The search under bounds against all there is: every candidate estimated, those near simulated."""

from __future__ import annotations

import itertools
from dataclasses import astuple, replace

import pytest

from lm_offload.hardware.curve import Curve
from lm_offload.hardware.link import Link
from lm_offload.hardware.profile import HardwareProfile
from lm_offload.plan import IN_MEMORY, Workload
from lm_offload.planner.choose.bounds import Bounds
from lm_offload.planner.choose.common import Common
from lm_offload.planner.choose.predictor import Predictor
from lm_offload.planner.choose.rank import TIE
from lm_offload.planner.choose.search import candidates, fastest_plans
from lm_offload.planner.costs.sweep_shape import Piece, SweepShape
from lm_offload.planner.places.candidate import Candidate
from lm_offload.planner.request import DeviceBudget, Request, joined
from lm_offload.step_time import StepTime
from lm_offload.units import GIB, MIB
from tests.planner.machines import PLAIN, PLAIN_CPU, disturbed, with_cpu
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
NEAR = 1.25  # an estimate that is worse by this factor is of none that could be best
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


def on_device(request: Request, budget_mib: int = 24, link_bytes_per_s: float = 4e9) -> Request:
    """A device with room for some units beside caches and buffers."""
    link = Link(Curve((1,), (link_bytes_per_s,)), block_bytes=MIB, concurrency=2)
    gpu = replace(PLAIN_CPU, memory_bytes_per_s=1e11, peak_flops=1e12)
    profile = replace(request.profile, gpu=gpu, h2d=link, d2h=link)
    return replace(request, profile=profile, device=DeviceBudget("gpu", budget_mib * MIB))


def on_devices(request: Request, *budgets_mib: int) -> Request:
    """Several of these devices."""
    stages = [DeviceBudget(f"gpu{i}", size * MIB) for i, size in enumerate(budgets_mib)]
    return replace(on_device(request), device=joined(stages))


def nearest(predictor: Predictor) -> list[Candidate]:
    """All candidates but those that are estimated to be far from the best."""
    estimated = [(predictor.estimate_s(found), found) for found in candidates(predictor.request)]
    limit_s = NEAR * min(estimate_s for estimate_s, _ in estimated)
    return [found for estimate_s, found in estimated if estimate_s < limit_s]


LONG = Workload((300,) * 8, (60,) * 8)  # whose cache has no room on the device
BESIDE = [
    on_device(request_of(FEW, 20, PLAIN, 0)),
    on_device(request_of(replace(LONG, prompt_lens=(100,) * 8), 30, PLAIN, 0), 6, 1e9),
    on_device(request_of(VARIED, 20, SLOW_CPU, 0), 14),
    on_devices(request_of(MANY, 20, PLAIN, 0), 5, 4, 6),
    on_devices(request_of(FEW, 8, PLAIN, GIB), 8, 8),  # on three tiers
]
REQUESTS = [*(request_of(*case) for case in CASES), *BESIDE]

# The best plan mixes prompts and decode in sweeps of 4 rows; its estimate, which takes them apart,
# is 1.3 times too long.
MIXED = request_of(replace(VARIED, objective="latency"), 10, DISTURBED, 0)
# The same in sweeps of 16, where the CPU attends to decode while the device computes prompts.
MIXED_BESIDE = on_device(request_of(LONG, 30, PLAIN, 0), 8, 1e9)
GAP = pytest.param(
    MIXED_BESIDE, marks=pytest.mark.xfail(strict=True, reason="estimated 1.2 x too long or more")
)


@pytest.mark.parametrize("request_", [*REQUESTS, MIXED, GAP])
def test_the_plan_that_is_found_is_as_good_as_the_best_there_is(request_):
    predictor = Predictor(request_)
    best_s = min(predictor.timed(found).score_s for found in nearest(predictor))
    found = fastest_plans(request_)
    # Estimates take prefill and decode apart; sweeps of few rows, which the mean request may be
    # done sooner with, mix them and are then not looked at.
    loss = 1.01 if request_.workload.objective == "throughput" else 1.02
    assert min(timed.score_s for timed in found) <= loss * best_s
    assert found[0].score_s <= TIE**2 * best_s  # equals within a step are not told apart


@pytest.mark.parametrize("request_", [*REQUESTS, MIXED, MIXED_BESIDE])
def test_no_estimate_is_below_the_bound_of_its_sizes(request_):
    predictor = Predictor(request_)
    bounds = Bounds(predictor)
    for found in candidates(request_):
        estimate_s = 1.0001 * predictor.estimate_s(found)
        sizes = replace(found.sizes, spill=IN_MEMORY)
        assert bounds.sizes_s(found.model, sizes, found.sizes.spill != IN_MEMORY) <= estimate_s
        assert bounds.sizes_s(found.model, found.sizes, spilled=False) <= estimate_s


@pytest.mark.parametrize("request_", [*REQUESTS, MIXED, MIXED_BESIDE])
def test_no_estimate_is_below_the_bound_of_its_group(request_):
    common = Common()
    fastest_plans(request_, common)
    search = common.searched[0].search
    for group in search.groups:
        bound_s = search.bounds.group_s(*group)
        for found in itertools.chain.from_iterable(
            search.placed(group, it) for it in group.options
        ):
            assert bound_s <= 1.0001 * search.bounds.predictor.estimate_s(found)


def numbers_of(step: StepTime) -> list[float]:
    *values, devices = astuple(step)
    return [*values, *itertools.chain.from_iterable(devices)]


@pytest.mark.parametrize("request_", [*REQUESTS[:6], *BESIDE])
def test_estimates_are_the_sums_of_what_is_simulated(request_):
    predictor = Predictor(request_)
    for found in itertools.islice(candidates(request_), 0, None, 7):
        times, count = predictor.times(found), found.sizes.max_sequences
        for shape in (SweepShape((Piece(count, 1, 90),), count), SweepShape((Piece(1, 9, 40),), 1)):
            load, step = times.load(shape), times.steady(shape)
            assert times.steady_s(shape) == pytest.approx(step.total_s)
            expected = load.step_time(step.total_s)
            assert numbers_of(step) == pytest.approx(numbers_of(expected), abs=1e-12)
