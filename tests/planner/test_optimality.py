"""A search that may choose finds nothing slower than one that a user has pinned, nor do bounds rule
out what is faster.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lm_offload.errors import BudgetError
from lm_offload.hardware.curve import Curve
from lm_offload.hardware.measured_work import THREADED_WORK
from lm_offload.plan import IN_MEMORY, Workload
from lm_offload.planner.choose.bounds import Bounds
from lm_offload.planner.choose.predictor import Predictor
from lm_offload.planner.choose.rank import TIE
from lm_offload.planner.choose.search import candidates, fastest_plans, make_plan
from lm_offload.planner.request import Request
from lm_offload.planner.sweeps.read_times import queue_bytes
from lm_offload.units import GIB, MIB
from tests.planner.machines import PLAIN, disturbed, with_cpu
from tests.planner.requests import TINY, make_request
from tests.planner.test_exhaustive import on_device

SMALL = {**TINY, "num_hidden_layers": 4, "hidden_size": 256, "intermediate_size": 768}
WORK = Workload((60,) * 4, (30,) * 4)
LATENCY = replace(WORK, objective="latency")
SLOWEST = 1e9  # bytes/s of disk and links here
FLAT = Curve((1.0, 2.0), (1.0, 1.01))  # of threads
FEW_THREADS = with_cpu(thread_speedup=dict.fromkeys(THREADED_WORK, FLAT))


def request_of(budget_mib, profile=PLAIN, work=WORK, formats=("int4:32",), **changes):
    request = make_request(SMALL, work, budget_mib * MIB, profile, formats=formats)
    return replace(request, **changes)


def beside(link_bytes_per_s, gpu_mib=6, cpu_mib=30, work=WORK, profile=PLAIN):
    request = request_of(cpu_mib, profile, work, formats=())
    return on_device(request, gpu_mib, link_bytes_per_s)


CASES = [
    request_of(5),
    request_of(8, disturbed(0.7, 0.8), LATENCY),
    request_of(9, with_cpu(peak_flops=1e10, kernel_s=1e-5), formats=(), spill_bytes=GIB),
    request_of(8, work=Workload((30, 200, 9), (5, 20, 40))),
    request_of(14, FEW_THREADS, formats=()),
    *(beside(link) for link in (4e9, 4e10, 1e12)),
    beside(4e9, gpu_mib=4, cpu_mib=8),
    beside(1e10, work=LATENCY),
]


def pinned(request: Request) -> Iterator[Request]:
    """The request with one option decided."""
    if len(request.models) > 1:
        yield from (replace(request, models=[model]) for model in request.models)
    if request.spill_bytes:
        yield replace(request, spill_bytes=0)
    if device := request.device:
        for attention in ("device", "cpu"):
            yield replace(request, device=replace(device, attention=attention))
        for kind in ("none", "mlp", "layers"):
            yield replace(request, device=replace(device, in_place=kind))
    else:
        yield from (replace(request, threads=count) for count in (1, 2))


def best_s(request: Request) -> float:
    """Seconds of the plan that is chosen; infinite where there is none."""
    try:
        if request.workload.objective == "latency":
            return fastest_plans(request)[0].score_s
        return make_plan(request).predicted.run_s
    except BudgetError:
        return float("inf")


@pytest.mark.parametrize("request_", CASES)
def test_no_pin_is_faster_than_what_the_search_chooses(request_):
    chosen_s = best_s(request_)
    for other in pinned(request_):
        assert chosen_s <= TIE * best_s(other), (other.device, other.threads, other.models)


@settings(max_examples=12, deadline=None)
@given(
    st.integers(4, 16),
    st.sampled_from([None, 1e9, 1e10, 1e12]),
    st.integers(1, 4),
    st.integers(1, 60),
    st.integers(2, 40),
    st.booleans(),
)
@example(12, None, 1, 1, 9, True)
def test_no_bound_is_above_what_is_simulated(budget_mib, link, count, prompt, output, slow):
    profile = with_cpu(peak_flops=1e10, sweep_s=1e-4) if slow else PLAIN
    work = Workload((prompt,) * count, (output,) * count)
    request = request_of(budget_mib, profile, work, formats=())
    request = on_device(request, max(budget_mib // 2, 4), link) if link else request
    predictor = Predictor(request)
    bounds = Bounds(predictor)
    for found in [*candidates(request)][::7]:
        if found.sizes.max_sequences == count:  # waves of fewer share sweeps, which bounds do not
            timed = predictor.timed(found)
            sizes = replace(found.sizes, spill=IN_MEMORY)
            bound_s = bounds.sizes_s(found.model, sizes, spilled=False)
            # What fills the rings before the first sweep is not counted in a run, whose first rows
            # of the embedding wait for no other reads either; and bounds are of mean sweeps, which
            # take longer than sweeps of many lengths where rates are curved.
            rings = found.residency.ring_bytes, found.device.ring_bytes if found.device else 0
            queue = queue_bytes(found.residency.ring_bytes, found.read_block_bytes, 2)
            behind = 0 if found.rows_in_memory else queue
            assert bound_s <= TIE * timed.score_s + (sum(rings) + behind) / SLOWEST, found.sizes
