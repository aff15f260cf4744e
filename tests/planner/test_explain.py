"""Why a plan: bottlenecks, what would help, what lost."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lm_offload.hardware.curve import Curve
from lm_offload.hardware.profile import HardwareProfile
from lm_offload.plan import Workload
from lm_offload.planner.choose.common import Common
from lm_offload.planner.choose.search import make_plan
from lm_offload.planner.reasons.explain import Explanation, explain
from lm_offload.planner.reasons.improvements import Improvements
from lm_offload.planner.reasons.what_if import faster_compute, faster_disk, faster_memory
from lm_offload.units import GIB
from tests.arch.real_configs import LLAMA_3_1_8B
from tests.planner.machines import PLAIN, PLAIN_CPU, with_cpu
from tests.planner.requests import TINY, make_request

WORKLOAD = Workload((64,) * 2, (8,) * 2)


def explained(budget_bytes: int, **options: object) -> Explanation:
    request = make_request(LLAMA_3_1_8B, WORKLOAD, budget_bytes, PLAIN, **options)
    return explain(request, make_plan(request))


def bound_by(profile: HardwareProfile, budget_bytes: int) -> dict[str, str]:
    request = make_request(LLAMA_3_1_8B, WORKLOAD, budget_bytes, profile)
    plan = make_plan(request)
    better = Improvements(request, plan, Common())
    return {phase: better.bottleneck(phase) for phase in ("prefill", "decode")}


def test_the_bottleneck_of_each_phase():
    assert bound_by(PLAIN, 4 * GIB) == {"prefill": "compute", "decode": "disk"}
    assert bound_by(PLAIN, 20 * GIB) == {"prefill": "compute", "decode": "memory"}
    engine = with_cpu(sweep_s=1e3)
    assert bound_by(engine, 20 * GIB) == {"prefill": "engine", "decode": "engine"}


def test_what_would_help_a_streamed_decode():
    helps = {found.change: found.speedup for found in explained(4 * GIB).what_ifs}
    assert helps["1 GiB more memory"] > 1.01
    assert helps["2x faster disk"] > helps["2x faster memory"]
    assert all(speedup > 0.98 for speedup in helps.values())
    resident = {found.change: found.speedup for found in explained(20 * GIB).what_ifs}
    assert resident["2x faster disk"] == pytest.approx(1.0, abs=0.02)


def test_the_ceiling_is_above_the_prediction():
    request = make_request(LLAMA_3_1_8B, WORKLOAD, 4 * GIB, PLAIN)
    plan = make_plan(request)
    found = explain(request, plan)
    assert found.ceiling.decode.bound_by == "disk"
    rounding = 1 - 1e-12  # a plan may do nothing but read
    assert found.ceiling.decode.tokens_per_s >= plan.predicted.decode_tokens_per_s * rounding
    assert found.ceiling.prefill.tokens_per_s >= plan.predicted.prefill_tokens_per_s


def test_runners_up_say_why_they_lose():
    found = explained(4 * GIB)
    assert found.runners_up
    for other in found.runners_up:
        assert other.speedup <= 1.01
        assert other.reason
    singles = [other for other in found.runners_up if other.plan.max_sequences == 1]
    assert any("fewer sequences" in other.reason for other in singles) or not singles


def test_formats_that_are_not_allowed_are_shown_with_the_way_to_allow_them():
    request = make_request(LLAMA_3_1_8B, WORKLOAD, 4 * GIB, PLAIN)
    lossy = make_request(LLAMA_3_1_8B, WORKLOAD, 4 * GIB, PLAIN, formats=("int4:64",)).models[1:]
    found = explain(request, make_plan(request), lossy)
    (other,) = [other for other in found.runners_up if other.plan.weight_format == "int4:64"]
    assert other.name == "int4:64 weights"
    assert other.speedup > 2
    assert other.reason == "lossy; allowed by --weight-format auto"


def test_an_allowed_format_that_loses_names_what_is_slower():
    slow = {"int4:64": Curve((1,), (1e9,)), "bf16": Curve((1,), (1e11,))}
    profile = with_cpu(product_flops=slow)
    request = make_request(LLAMA_3_1_8B, WORKLOAD, 20 * GIB, profile, formats=("int4:64",))
    found = explain(request, make_plan(request))
    (other,) = [other for other in found.runners_up if other.name == "int4:64 weights"]
    assert other.speedup < 0.1
    assert "slower, bound by computing" in other.reason


def test_only_what_is_bound_by_memory_gains_from_faster_memory():
    products = {"bf16": Curve((1.0, 256.0), (1e10, 8e10))}  # 10 GB/s, then 0.3 GB/s
    cached = {"bf16": Curve((1.0, 256.0), (1.5e10, 9e10))}
    attention = {"bf16": Curve((16.0, 1024.0), (9e9, 2e9))}
    profile = with_cpu(
        product_flops=products,
        cached_product_flops=cached,
        decode_attention_bytes_per_s=attention,
    )
    memory, compute = faster_memory(profile, 2).cpu, faster_compute(profile, 2).cpu
    assert memory.product_flops["bf16"].rates == pytest.approx((1.5e10, 8e10))  # cache, itself
    assert compute.product_flops["bf16"].rates == (1e10, 1.6e11)
    assert memory.decode_attention_bytes_per_s["bf16"].rates == (1.8e10, 2e9)
    assert compute.decode_attention_bytes_per_s["bf16"].rates == (9e9, 4e9)
    assert memory.memory_bytes_per_s == 2 * PLAIN_CPU.memory_bytes_per_s
    disk = faster_disk(replace(profile, disk_read=replace(PLAIN.disk_read, request_s=1.0)), 4)
    assert disk.disk_read.request_s == 0.25
    assert disk.disk_read.bytes_per_s.at(1) == 4e9


def test_a_model_that_fits_has_plans_that_are_as_good():
    request = make_request(TINY, Workload((10,), (5,)), 1 << 26, PLAIN)
    found = explain(request, make_plan(request))
    assert found.runners_up == ()
