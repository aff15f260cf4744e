"""The KV cache in both memories: when that is chosen, how rows are cut, and what it takes."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from lm_offload.cli.plan_table import print_plan
from lm_offload.hardware.curve import Curve
from lm_offload.hardware.link import Link
from lm_offload.plan import Workload
from lm_offload.planner.choose.predictor import Predictor
from lm_offload.planner.choose.search import candidates, make_plan
from lm_offload.planner.costs.memory import Sizes
from lm_offload.planner.costs.sweep_shape import Piece, SweepShape
from lm_offload.planner.decided.fixed_plan import fixed_plan
from lm_offload.planner.decided.plan_choice import choice_of
from lm_offload.planner.reasons.reasons import plan_name, reason_of
from lm_offload.planner.request import DeviceBudget
from lm_offload.planner.sweeps.split_load import turns_s
from lm_offload.planner.sweeps.split_time import SplitSweepTimes
from lm_offload.units import MIB
from tests.planner.machines import PLAIN, PLAIN_CPU
from tests.planner.requests import TINY, make_request

MODEL = {
    **TINY,
    "num_hidden_layers": 6,
    "hidden_size": 256,
    "intermediate_size": 768,
    "max_position_embeddings": 4096,
}
SHORT = Workload((30,) * 4, (20,) * 4)
LONG = Workload((300,) * 16, (100,) * 16)  # 12.5 MiB of KV cache of one sequence


def request_of(gpu_mib=60, cpu_bytes_per_s=2e10, gpu_bytes_per_s=1e11, workload=LONG, **device):
    """A CPU that reads the cache at a fraction of the device's rate."""
    link = Link(Curve((1,), (4e9,)), block_bytes=MIB)
    cpu = replace(PLAIN_CPU, memory_bytes_per_s=cpu_bytes_per_s, peak_flops=1e12)
    gpu = replace(PLAIN_CPU, memory_bytes_per_s=gpu_bytes_per_s, peak_flops=1e13)
    profile = replace(PLAIN, cpu=cpu, gpu=gpu, h2d=link, d2h=link)
    budget = DeviceBudget("gpu", gpu_mib * MIB, **{"in_place": "none", **device})
    return replace(make_request(MODEL, workload, 400 * MIB, profile), device=budget)


def best(request, attention):
    return make_plan(replace(request, device=replace(request.device, attention=attention)))


def test_both_attend_where_that_is_faster_than_either():
    request = request_of()
    chosen, device, cpu = (best(request, where) for where in (None, "device", "cpu"))
    assert chosen.device.attention == "both"
    assert 0 < chosen.device.kv_blocks < chosen.kv_blocks
    assert chosen.predicted.run_s < 0.96 * min(device.predicted.run_s, cpu.predicted.run_s)
    assert chosen.used_bytes <= chosen.budget_bytes
    assert chosen.device.used_bytes <= chosen.device.budget_bytes
    assert chosen.predicted.step_s["decode"].attend_s > 0


def test_all_stays_on_a_device_that_has_room():
    assert best(request_of(gpu_mib=400), None).device.attention == "device"


def test_memory_of_the_device_is_not_filled_for_its_own_sake():
    """A CPU as fast as the device attends to more than half, though there is room for more."""
    plan = best(request_of(gpu_mib=230, cpu_bytes_per_s=1e11), "both")
    room = plan.device.budget_bytes - plan.device.used_bytes
    block_bytes = dict(plan.device.memory)["KV cache"] // plan.device.kv_blocks
    assert room > 30 * block_bytes
    assert plan.device.kv_blocks < plan.kv_blocks


def test_a_plan_is_timed_alike_when_it_is_given():
    request = request_of()
    plan = make_plan(request)
    again = fixed_plan(request, choice_of(plan))
    assert again.predicted == plan.predicted
    assert again.device == plan.device
    assert again.device.turns.cpu_token_s > again.device.turns.device_token_s > 0


def test_it_is_explained():
    both, cpu = best(request_of(), None), best(request_of(), "cpu")
    assert "with attention on the cpu" in plan_name(cpu, both)
    assert "with attention on both processors" in plan_name(both, cpu)
    assert reason_of(cpu, both).endswith("bound by the CPU")
    console = Console(file=io.StringIO(), width=400)
    print_plan(console, both)
    text = console.file.getvalue()
    assert f"{both.device.kv_blocks} of {both.kv_blocks} KV blocks are there" in text


def times_of(request, device_frac=0.5) -> SplitSweepTimes:
    """Nothing is uploaded."""
    sizes = Sizes(400, 16, 16, 16, attention="both", device_blocks=round(400 * device_frac))
    times = Predictor(request).least_device_times(request.models[0], sizes)
    assert isinstance(times, SplitSweepTimes)
    return times


DECODE = SweepShape((Piece(16, 1, 350),), 16)


def test_each_processor_attends_to_its_own():
    request = request_of()
    load = times_of(request, 0.25).load(DECODE)
    alone = times_of(request, 0.25).costs.attention_s(DECODE, 16)
    assert sum(load.host.own) == pytest.approx(0.25 * sum(alone))
    whole = times_of(request, 0.25).host_costs.total_attention_s(DECODE, 16)
    assert load.host.attend_s == pytest.approx(0.75 * whole)


def test_the_device_has_its_sequences_to_the_end():
    """Of four that are left, with room for eight, the CPU has none."""
    load = times_of(request_of()).load(SweepShape((Piece(4, 1, 350),), 4))
    assert load.host.attend_s == 0
    assert load.alone == 1


@pytest.mark.parametrize("frac", [0.25, 0.5, 0.75])
@pytest.mark.parametrize("shape", [DECODE, SweepShape((Piece(2, 300, 300),), 2)])
def test_sums_steady_time_and_simulation_agree(frac, shape):
    times = times_of(request_of(), frac)
    load = times.load(shape)
    assert times.least_s(shape) == pytest.approx(times.steady(shape).total_s, rel=1e-6)
    simulated = times.simulated_s([load] * 4)[-1]
    assert simulated == pytest.approx(times.steady_s(shape), rel=0.15)  # its ends


def test_more_than_two_even_halves_hide():
    """NEO's rule: what the CPU attends to beside the device's own attention costs nothing."""
    request = request_of(gpu_bytes_per_s=3e10)
    uneven = times_of(request, 0.5)
    load = uneven.load(DECODE)
    parts = [load.host.own, *load.host.products]
    device_s = sum(map(sum, parts))
    assert uneven.steady_s(DECODE) < 1.1 * max(device_s, load.host.attend_s) + load.overhead_s
    even_s = turns_s([device_s / 2] * 2, [load.host.attend_s / 2] * 2, [0, 0])
    assert even_s <= uneven.least_s(DECODE)


def test_splits_are_searched_only_where_both_may_attend():
    for attention in ("device", "cpu"):
        request = request_of(
            gpu_mib=400, attention=attention, workload=Workload((30,) * 3, (8,) * 3)
        )
        assert all(not found.sizes.device_blocks for found in candidates(request))


def test_nothing_is_in_place_beside_it():
    request = request_of(in_place=None, workload=SHORT)
    both = [it for it in candidates(request) if it.sizes.attention == "both"]
    assert both
    assert not any(it.sizes.in_place_rows or it.device.in_place for it in both)


@pytest.mark.parametrize(("attention", "replays"), [("device", True), ("both", False)])
def test_no_launches_are_recorded_beside_it(attention, replays):
    request = request_of(gpu_mib=400, workload=SHORT)
    gpu = replace(request.profile.gpu, kernel_s=1e-3, replay_s=1e-5)
    request = replace(request, profile=replace(request.profile, gpu=gpu))
    plan = best(request, attention)
    assert plan.device.uploaded_bytes == 0
    assert plan.device.replays == replays
