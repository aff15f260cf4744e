"""Threads by the model: on machines of 1 to 64 cores that are described by their curves."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from lm_offload.errors import ConfigError
from lm_offload.hardware.curve import Curve
from lm_offload.hardware.measured_work import THREADED_WORK, thread_counts
from lm_offload.hardware.profile import HardwareProfile
from lm_offload.plan import ThreadPlan, Workload
from lm_offload.planner.choose.search import make_plan
from lm_offload.planner.choose.thread_choice import choose_threads, knee
from lm_offload.planner.costs.sampling_cost import sampling_s
from lm_offload.planner.costs.thread_rates import with_threads
from lm_offload.planner.decided.fixed_plan import fixed_plan
from lm_offload.planner.decided.plan_choice import PlanChoice, choice_of
from lm_offload.planner.reasons.side_by_side import levels, side_by_side
from lm_offload.units import GIB
from tests.planner.machines import PLAIN, PLAIN_CPU
from tests.planner.requests import TINY, make_request

MODEL = {**TINY, "hidden_size": 1024, "intermediate_size": 2048, "vocab_size": 8000}
WORKLOADS = (Workload((64,), (9,)), Workload((16,) * 8, (4,) * 8), Workload((200,), (2,)))
MACHINES = [(1, 1.0), (2, 1.0), (3, 0.8), (6, 1.0), (16, 0.8), (64, 0.8)]  # cores, decline


def machine(cores: int, knee: int, decline: float = 1.0) -> HardwareProfile:
    """Memory is read at full speed by `knee` threads, every core computes; beyond the knee what is
    bound by memory loses `decline` with each doubling."""
    counts = thread_counts(cores)
    rows = [min(p, knee) * decline ** sum(q > knee for q in counts if q <= p) for p in counts]
    by_memory = Curve(tuple(map(float, counts)), tuple(map(float, rows)))
    in_proportion = Curve(by_memory.sizes, by_memory.sizes)
    speedups = dict.fromkeys(THREADED_WORK, by_memory)
    speedups |= dict.fromkeys(("product_rows", "prefill_attention"), in_proportion)
    cpu = replace(
        PLAIN_CPU,
        threads=cores,
        memory_bytes_per_s=1e10 * rows[-1],
        peak_flops=5e10 * cores,
        sampled_values_per_s=1e9,
        thread_speedup=speedups,
        memory_by_threads_bytes_per_s=Curve(by_memory.sizes, tuple(1e10 * row for row in rows)),
    )
    return replace(PLAIN, cpu=cpu)


@pytest.mark.parametrize(("cores", "decline"), MACHINES)
@pytest.mark.parametrize("workload", WORKLOADS[:2])
def test_the_choice_is_within_3_percent_of_every_fixed_setting(
    cores: int, workload: Workload, decline: float
) -> None:
    request = make_request(MODEL, workload, GIB, machine(cores, 4, decline))
    chosen = make_plan(request)
    settings = itertools.product(thread_counts(cores), repeat=2)
    plans = [ThreadPlan(*pair, sampling) for pair in settings for sampling in {1, cores}]
    choice = choice_of(chosen)
    best_s = min(
        fixed_plan(request, replace(choice, threads=threads)).predicted.run_s for threads in plans
    )
    assert chosen.predicted.run_s <= 1.03 * best_s
    assert max(vars(chosen.threads).values()) <= cores


def test_threads_beyond_the_knee_are_left_to_others() -> None:
    cpu = machine(64, 8).cpu
    assert knee(cpu, "product_row") == 8
    assert knee(cpu, "product_rows") == 64
    decode = make_request(MODEL, Workload((1,), (200,)), GIB, machine(64, 8))
    assert make_plan(decode).threads.compute == 8
    prefill = make_request(MODEL, Workload((250,), (1,)), GIB, machine(64, 8))
    assert make_plan(prefill).threads.compute == 64


def test_the_climb_leaves_a_knee_that_the_run_does_not_share() -> None:
    def seconds_of(threads: ThreadPlan) -> float:
        return 1 / threads.compute + 2 * threads.attention

    found = choose_threads(machine(16, 4).cpu, None, seconds_of)
    assert found == ThreadPlan(16, 1, 1)


def test_without_measured_speedups_every_core_computes() -> None:
    chosen = make_plan(make_request(MODEL, WORKLOADS[0], GIB, PLAIN))
    assert chosen.threads == ThreadPlan(2, 2, 1)


def test_what_the_user_says_holds() -> None:
    request = replace(make_request(MODEL, WORKLOADS[0], GIB, machine(8, 2)), threads=5)
    assert make_plan(request).threads == ThreadPlan(5, 5, 1)


def test_all_threads_change_nothing() -> None:
    profile = machine(8, 2)
    assert with_threads(profile, ThreadPlan.on(8)) is profile


def test_rates_follow_the_speedups() -> None:
    curve = Curve((1.0, 64.0), (1e9, 1e11))
    attention = {"bf16": Curve((1.0,), (6e9,))}
    cpu = replace(
        machine(8, 2).cpu,
        product_flops={"bf16": curve},
        decode_attention_bytes_per_s=attention,
        prefill_attention_flops=attention,
        product_input_s={"bf16": 1e-9},
    )
    slower = with_threads(replace(PLAIN, cpu=cpu), ThreadPlan(1, 4, 2)).cpu
    assert slower.product_flops["bf16"].rates == pytest.approx((1e9 / 2, 1e11 / 8))
    assert slower.product_input_s["bf16"] == pytest.approx(8e-9)  # as products of many rows
    assert slower.decode_attention_bytes_per_s["bf16"].rates == pytest.approx((6e9,))
    assert slower.prefill_attention_flops["bf16"].rates == pytest.approx((3e9,))
    assert slower.memory_bytes_per_s == pytest.approx(cpu.memory_bytes_per_s / 2)


def test_torch_samples_on_one_thread_unless_there_is_much_to_look_at() -> None:
    cpu = machine(4, 2).cpu
    assert sampling_s(cpu, 32_000, threads=4) == sampling_s(cpu, 32_000, threads=1)
    assert sampling_s(cpu, 40_000, threads=4) > sampling_s(cpu, 40_000, threads=1)
    assert sampling_s(cpu, 64 * 128_000, threads=4) < sampling_s(cpu, 64 * 128_000, threads=1)
    assert sampling_s(replace(cpu, sampled_values_per_s=0.0), 1, threads=4) == 0


def test_a_plan_with_more_threads_than_cores_is_refused() -> None:
    request = make_request(MODEL, WORKLOADS[0], GIB, PLAIN)
    choice: PlanChoice = replace(choice_of(make_plan(request)), threads=ThreadPlan(2, 9, 1))
    with pytest.raises(ConfigError, match=r"has 9 threads, allowed are 1 to 2.*change threads"):
        fixed_plan(request, choice)


def test_levels_are_the_products_that_do_not_need_one_another() -> None:
    model = make_request(MODEL, WORKLOADS[0], GIB).models[0]
    found = {sized.unit.kind: [len(level) for level in levels(sized.unit)] for sized in model.units}
    assert (found["attention"], found["mlp"], found["final_norm"]) == ([3, 1], [2, 1], [])


@pytest.mark.parametrize(
    ("knee", "cached", "pays"), [(16, True, False), (2, True, True), (2, False, False)]
)
def test_products_pay_side_by_side_beyond_their_knee_unless_they_share_memory(
    knee: int, cached: bool, pays: bool
) -> None:
    request = make_request(MODEL, WORKLOADS[0], GIB, machine(16, knee))
    cpu = replace(request.profile.cpu, cache_bytes=GIB if cached else 0)
    plan = replace(make_plan(request), threads=ThreadPlan.on(16))
    found = side_by_side(request.models[0], cpu, plan)
    assert (found.speedup > 1.2) == pays
    assert (found.width > 1) == pays
