"""Units computed on the CPU where they lie: when they are chosen, how many, and what they take."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lm_offload.hardware.curve import Curve
from lm_offload.hardware.link import Link
from lm_offload.plan import Workload
from lm_offload.planner.choose.common import Common
from lm_offload.planner.choose.search import make_plan
from lm_offload.planner.costs.ring_depth import RingDepth
from lm_offload.planner.decided.fixed_plan import fixed_plan
from lm_offload.planner.decided.plan_choice import choice_of
from lm_offload.planner.places.ordered_residency import choose_in_order
from lm_offload.planner.reasons.improvements import Improvements
from lm_offload.planner.reasons.in_place_reason import in_place_reason
from lm_offload.planner.request import DeviceBudget
from lm_offload.units import MIB
from tests.planner.machines import PLAIN, PLAIN_CPU
from tests.planner.requests import TINY, make_request

MODEL = {**TINY, "num_hidden_layers": 8, "hidden_size": 256, "intermediate_size": 1024}
LONG = Workload((100,) * 4, (60,) * 4)
MEMORY = 4e10  # bytes/s of the CPU


def request_of(link_bytes_per_s, workload=LONG, gpu_mib=14, cpu_mib=64, **device):
    """A CPU and a device that reads its memory ten times as fast."""
    link = Link(Curve((1,), (link_bytes_per_s,)), block_bytes=MIB // 4)
    cpu = replace(PLAIN_CPU, memory_bytes_per_s=MEMORY, peak_flops=4e11)
    gpu = replace(PLAIN_CPU, memory_bytes_per_s=4e11, peak_flops=1e13)
    profile = replace(PLAIN, cpu=cpu, gpu=gpu, h2d=link, d2h=link)
    budget = DeviceBudget("gpu", gpu_mib * MIB, **device)
    return replace(make_request(MODEL, workload, cpu_mib * MIB, profile), device=budget)


def decode_s(plan) -> float:
    return plan.predicted.step_s["decode"].total_s


def test_a_slow_link_leaves_mlps_in_place_and_a_fast_one_moves_them():
    slow, fast = make_plan(request_of(2e9)), make_plan(request_of(1e12))
    assert slow.device.in_place
    assert not fast.device.in_place
    assert set(slow.device.in_place) <= set(slow.resident)
    step = slow.predicted.step_s["decode"]
    assert step.attend_s > 0
    assert step.h2d_bytes < slow.device.uploaded_bytes


def test_it_is_faster_than_either_alone():
    request = request_of(4e9)
    device = request.device
    moved, chosen, every = (
        make_plan(replace(request, device=replace(device, in_place=kind)))
        for kind in ("none", None, "mlp")
    )
    assert chosen.predicted.run_s <= 1.01 * min(moved.predicted.run_s, every.predicted.run_s)
    assert decode_s(chosen) < 0.8 * decode_s(moved)


def test_prompts_are_computed_on_the_device_above_the_switch_point():
    prompts = Workload((200,) * 8, (40,) * 8)
    plan = make_plan(request_of(2e9, prompts, gpu_mib=24, in_place="mlp", attention="device"))
    prefill, decode = plan.predicted.step_s["prefill"], plan.predicted.step_s["decode"]
    assert 8 <= plan.device.in_place_rows < 1600
    assert prefill.attend_s == 0
    assert prefill.h2d_bytes == plan.device.uploaded_bytes > decode.h2d_bytes


def test_a_slow_processor_switches_earlier():
    request = request_of(2e9, in_place="mlp", workload=replace(LONG, output_lens=(30,) * 4))
    slow = replace(request.profile.cpu, peak_flops=request.profile.cpu.peak_flops / 20)
    rows = [
        make_plan(replace(request, profile=replace(request.profile, cpu=cpu))).device.in_place_rows
        for cpu in (request.profile.cpu, slow)
    ]
    assert rows[0] > rows[1]


def test_link_and_cpu_share_the_work_where_neither_is_much_faster():
    request = request_of(2e10, workload=replace(LONG, output_lens=(100,) * 4))
    plan = make_plan(request)
    step = plan.predicted.step_s["decode"]
    assert 0 < step.h2d_bytes < plan.device.uploaded_bytes
    assert step.attend_s > 0


@pytest.mark.parametrize(
    ("attention", "cpu_mib", "streams"),
    [("device", 64, False), ("cpu", 64, False), ("device", 16, True), ("cpu", 22, True)],
)
def test_a_decided_plan_is_predicted_alike_and_holds_its_budgets(attention, cpu_mib, streams):
    request = request_of(2e9, attention=attention, in_place="mlp", cpu_mib=cpu_mib)
    plan = make_plan(request)
    assert plan.device.in_place
    assert bool(plan.streamed) == streams
    again = fixed_plan(request, choice_of(plan))
    assert again.predicted == plan.predicted
    assert again.memory == plan.memory
    assert plan.used_bytes <= plan.budget_bytes
    assert plan.device.used_bytes <= plan.device.budget_bytes


def test_memory_for_its_rows_is_counted():
    plan = make_plan(request_of(2e9, in_place="mlp"))
    rows, memory = plan.device.in_place_rows, dict(plan.memory)
    assert memory["hidden states"] >= rows * MODEL["hidden_size"] * 4
    assert memory["workspace"] >= min(rows, plan.micro_batch_tokens) * MODEL["hidden_size"] * 4
    assert "workspace" not in dict(make_plan(request_of(2e9, in_place="none")).memory)


@pytest.mark.parametrize("link", [2e9, 1e12])
def test_the_reason_says_what_an_mlp_takes_either_way(link):
    request = request_of(link)
    plan = make_plan(request)
    found = in_place_reason(request, plan, Common())
    assert (found.in_place > 0) == (found.upload_s > found.on_cpu_s)
    mlps = sum(name.endswith(".mlp") for name in plan.resident)
    assert found.in_place + found.uploaded == mlps


def test_where_the_cpu_computes_its_memory_is_what_counts():
    request = request_of(2e9, in_place="mlp", gpu_mib=16)
    better = Improvements(request, make_plan(request), Common())
    assert better.bottleneck("decode") == "CPU memory"


def test_nothing_is_in_place_where_all_is_on_the_device():
    request = request_of(2e9, gpu_mib=1024)
    plan = make_plan(request)
    assert not plan.device.in_place
    assert in_place_reason(request, plan, Common()) is None
    forced = make_plan(request_of(2e9, gpu_mib=1024, in_place="mlp"))
    assert (forced.device.in_place, forced.device.in_place_rows) == ((), 0)


@pytest.mark.parametrize("budget", range(0, 40, 3))
def test_units_that_matter_more_come_first(budget):
    sizes, first = [2, 5, 2, 5, 2, 5], frozenset({0, 2, 4})
    found = choose_in_order(sizes, first, budget, RingDepth(1))
    if found is None:
        assert budget < 5
        return
    assert found.ring_bytes + sum(sizes[unit] for unit in found.resident) <= budget
    others = found.resident - first
    assert not others or first <= found.resident
